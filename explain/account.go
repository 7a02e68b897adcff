package explain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/causes"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
)

// maxAccountFile bounds the files of accounts that are read, in bytes.
const maxAccountFile = 16 << 20

// tellAccount says what the account part of the stack makes of the user: a login goes through it
// behind a good card, too.
func (r *run) tellAccount() {
	name := r.userName()
	if name == "" {
		return
	}

	account, err := r.accounts().Lookup(name)
	switch {
	case errors.Is(err, accounts.ErrNoAccount) && r.allowsUnknown():
		r.note("no-account", name,
			message.Textf(
				"There is no such account, and allow_unknown_user leaves it to the program that asks."))
		return
	case errors.Is(err, accounts.ErrNoAccount):
		if unknown := causes.Of(causes.UnknownUser); !r.said(unknown) {
			r.refuse(unknown, name, fmt.Sprintf("there is no account %q", name))
		}
		return
	case err != nil:
		r.note("account-unread", name,
			message.Textf("The account cannot be looked up: %s", oneLine(err.Error())))
		return
	case account.Name != name:
		r.note(causes.Of(causes.OtherSpelling).Name, name,
			message.Textf("The account is called %q.", account.Name))
	}

	if r.stack == nil {
		return
	}

	n := r.neighbours()
	// Our module has no say in the account phase here: the rest is asked what it makes of the user.
	outcome := r.stack.stack.Run(pamstack.Account, n.answer(pamstack.Ignore))
	for _, step := range outcome.Path {
		if why := n.said[step.Line.Place()]; why != "" && outcome.Result != pamstack.Success {
			r.refuse(causes.Of(causes.AccountRefused), name,
				fmt.Sprintf("%s: %s: %s", step.Line.Place(), step.Line.Name(), why))
			return
		}
	}
	r.ok("account", name, message.Textf("Nothing that can be seen here keeps the account out."))
}

// allowsUnknown reports whether the configuration lets users without an account here log in.
func (r *run) allowsUnknown() bool {
	return r.told.conf != nil && r.told.conf.Global.AllowUnknownUser
}

// shadowSays is what pam_unix(8) says of an account by its line of shadow(5), and why where that
// refuses. An account without a line there is taken as good.
func shadowSays(root, name string, now time.Time) (pamstack.Result, string) {
	text, err := readBounded(filepath.Join(root, "/etc/shadow"))
	if err != nil || name == "" {
		return pamstack.Success, ""
	}

	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		// Shorter lines are broken, and pam_unix leaves them out as well.
		if fields[0] == name && len(fields) >= 8 {
			return shadowLine(fields, int(now.Unix()/86400))
		}
	}
	return pamstack.Success, ""
}

// shadowLine evaluates one line, today in days since 1970. The order is pam_unix's
// (check_shadow_expiry).
func shadowLine(fields []string, today int) (pamstack.Result, string) {
	number := func(i int) int {
		n, err := strconv.Atoi(fields[i])
		if err != nil || n < 0 {
			return -1
		}
		return n
	}

	changed := number(2)
	most := number(4)
	inactive := number(6)
	expires := number(7)

	switch age := today - changed; {
	case expires >= 0 && today >= expires:
		return pamstack.AcctExpired, "the account has expired on " + day(expires)
	case changed == 0:
		return pamstack.NewAuthtokReqd, "the password must be changed now"
	case changed < 0 || today < changed || most < 0:
	case inactive >= 0 && age > most && age > most+inactive:
		return pamstack.AuthtokExpired,
			"the password has expired, and the time to change it is over since " +
				day(changed+most+inactive)
	case age > most:
		return pamstack.NewAuthtokReqd, "the password has expired on " + day(changed+most)
	}
	return pamstack.Success, ""
}

// day is the date of a number of days since 1970.
func day(n int) string { return time.Unix(int64(n)*86400, 0).UTC().Format(time.DateOnly) }

// readBounded reads a file of at most maxAccountFile bytes.
func readBounded(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()

	data, err := io.ReadAll(io.LimitReader(f, maxAccountFile))
	return string(data), err
}

// faillockSettings are those of faillock.conf(5), overridden by the arguments of the PAM line.
type faillockSettings struct {
	dir      string
	deny     int
	interval time.Duration
	unlock   time.Duration // 0: never
	root     bool          // even_deny_root
}

// lockedByFaillock reports whether pam_faillock(8) keeps an account out now, and why.
func lockedByFaillock(root, name string, isRoot bool, args []string, now time.Time) (bool, string) {
	s := faillockSettings{
		dir:      "/var/run/faillock",
		deny:     3,
		interval: 15 * time.Minute,
		unlock:   10 * time.Minute,
	}

	text, _ := readBounded(filepath.Join(root, "/etc/security/faillock.conf"))
	for line := range strings.Lines(text) {
		setting, _, _ := strings.Cut(line, "#")
		s.set(setting)
	}
	// After the file, since an argument of the line overrides it (pam_faillock(8)).
	for _, arg := range args {
		s.set(arg)
	}

	// The name becomes that of a file; root is locked only with even_deny_root.
	exempt := isRoot && !s.root
	if exempt || name == "" || name != filepath.Base(name) {
		return false, ""
	}

	file := filepath.Join(s.dir, name)
	tally, err := readBounded(filepath.Join(root, file))
	if err != nil {
		return false, ""
	}

	failures, latest := countFailures([]byte(tally), s.interval)

	// It unlocks by itself some time after the last failure, unless that is set to never.
	over := s.unlock > 0 && now.After(latest.Add(s.unlock))
	if s.deny == 0 || failures < s.deny || over {
		return false, ""
	}
	return true, fmt.Sprintf("%d failed logins are in %s, the last at %s, and deny is %d", failures,
		file, latest.UTC().Format(time.RFC3339), s.deny)
}

// set takes one setting; what is not known or not a number is left as it was.
func (s *faillockSettings) set(setting string) {
	key, value, _ := strings.Cut(strings.TrimSpace(setting), "=")
	key = strings.TrimSpace(key)
	value = strings.TrimSpace(value)

	seconds := func(to *time.Duration) {
		if n, err := strconv.ParseUint(value, 10, 31); err == nil {
			*to = time.Duration(n) * time.Second
		}
	}

	switch key {
	case "dir":
		s.dir = value
	case "deny":
		if n, err := strconv.ParseUint(value, 10, 16); err == nil {
			s.deny = int(n)
		}
	case "fail_interval":
		seconds(&s.interval)
	case "unlock_time":
		if value == "never" {
			s.unlock = 0
		}
		seconds(&s.unlock)
	case "even_deny_root":
		s.root = true
	}
}

// A tally is 64 bytes: the source in 52, two unused, the status and the time in the machine's order
// (Linux-PAM, modules/pam_faillock/faillock.h).
const (
	tallySize  = 64
	tallyValid = 1
	maxTallies = 1024 // as many as pam_faillock reads
)

// countFailures counts the failed logins that count together: within the interval before the
// latest.
func countFailures(file []byte, interval time.Duration) (failures int, latest time.Time) {
	var times []int64
	for len(file) >= tallySize && len(times) < maxTallies {
		if binary.NativeEndian.Uint16(file[54:])&tallyValid != 0 {
			// Bounded, so that a damaged time cannot overflow.
			times = append(times, int64(min(binary.NativeEndian.Uint64(file[56:]), 1<<40)))
		}
		file = file[tallySize:]
	}

	last := int64(0)
	for _, at := range times {
		last = max(last, at)
	}
	// The interval is before the latest, as pam_faillock counts: older ones are forgiven.
	for _, at := range times {
		if last-at < int64(interval/time.Second) {
			failures++
		}
	}
	return failures, time.Unix(last, 0)
}
