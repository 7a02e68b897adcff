package doctor

import (
	"context"
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
)

// checkBefore looks for what ends a stack before our module, or the account phase after it: whether
// it does so now, for nologin and faillock, and where it may.
func checkBefore(_ context.Context, m *Machine) diagnosis.Findings {
	var found byPlace
	for _, stack := range m.withCard() {
		for _, line := range enders(stack) {
			found.add(stack.Service, m.ender(line))
		}
		for _, line := range stack.Lines(pamstack.Account) {
			// In the account phase only what refuses now: the rest of it has the card behind it.
			if isNow := m.ender(line); isNow.Severity != diagnosis.Note {
				found.add(stack.Service, isNow)
			}
		}
	}
	return found.all()
}

// enders are the lines that, when they say no, keep our module from being asked.
func enders(s *pamstack.Stack) (lines []pamstack.Line) {
	// All say what they always say, and whatever depends on the user says yes.
	asked := func(refusing int) bool {
		return s.Run(pamstack.Auth, func(l pamstack.Line) pamstack.Result {
			switch said := fixed(l); {
			case l.Index() == refusing:
				return pamstack.AuthErr
			case len(said) > 0:
				return said[0]
			}
			return pamstack.Success
		}).Ran(ours)
	}
	if !asked(-1) {
		return nil // of a condition that must fail, or a module that is enough, nothing can be told
	}

	for _, line := range s.Lines(pamstack.Auth) {
		if line.IsOurs() {
			break
		}
		if !asked(line.Index()) {
			lines = append(lines, line)
		}
	}
	return lines
}

// ender says what a line that may end a login does now.
func (m *Machine) ender(line pamstack.Line) diagnosis.Finding {
	at := line.Place().String()
	switch line.Name() {
	case "pam_nologin.so":
		for _, file := range []string{"/var/run/nologin", "/run/nologin", "/etc/nologin"} {
			if m.exists(file) {
				return warn("stack-nologin", at,
					message.Textf("%s is there: nobody but root may log in", file),
					message.Textf("run: rm %s", file))
			}
		}
	case "pam_faillock.so":
		failures := m.failures(line)
		deny := m.denied(line)
		if m.User != "" && failures >= deny {
			return warn("stack-faillock", at,
				message.Textf("%s is locked after %d failures: a good card is refused, too", m.User,
					failures),
				message.Textf("run: faillock --user %s --reset", m.User))
		}
	}

	return note("stack-before", at,
		message.Textf("where %s refuses, the login ends before the card is asked for", line.Name()))
}

// argument is the value of a module's argument, or of a key of a file, whichever says it; "" where
// none does.
func (m *Machine) argument(line pamstack.Line, name, file string) string {
	for _, arg := range line.Args {
		if value, found := strings.CutPrefix(arg, name+"="); found {
			return value
		}
	}

	text, _ := m.text(file)
	for row := range strings.Lines(text) {
		key, value, found := strings.Cut(row, "=")
		if found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// faillockFile is read where the PAM line has no argument of that name.
const faillockFile = "/etc/security/faillock.conf"

// denied is the number of failures at which pam_faillock locks an account (faillock.conf(5)).
func (m *Machine) denied(line pamstack.Line) int {
	if deny, err := strconv.Atoi(m.argument(line, "deny", faillockFile)); err == nil {
		return deny
	}
	// The default of faillock.conf(5).
	return 3
}

// A record of pam_faillock's tally: 52 bytes of who it was, two bytes that are not used, two of
// flags, and the time.
const (
	tallyRecord = 64
	tallyStatus = 54
	tallyValid  = 1
)

// failures counts those of the user that pam_faillock still counts.
func (m *Machine) failures(line pamstack.Line) (count int) {
	// It becomes the name of a file in the directory of tallies.
	if m.User == "" || strings.ContainsAny(m.User, "/\x00") || strings.HasPrefix(m.User, ".") {
		return 0
	}

	dir := m.argument(line, "dir", faillockFile)
	if dir == "" {
		dir = "/var/run/faillock"
	}

	data, err := os.ReadFile(m.Path(dir + "/" + m.User))
	if err != nil {
		return 0
	}

	for record := range slices.Chunk(data, tallyRecord) {
		if len(record) != tallyRecord {
			continue
		}
		// Only records that are marked as valid count (faillock.h of Linux-PAM).
		if binary.NativeEndian.Uint16(record[tallyStatus:])&tallyValid != 0 {
			count++
		}
	}
	return count
}
