package server

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Rules is the daemon's configuration file: lines "name = value", "#" begins a comment.
//
//	allow = local | all | none     who may use the readers beside those named below: root and
//	                               users with an active local session (default); everybody;
//	                               nobody but root
//	user = NAME or UID             may always; as often as needed
//	group = NAME or GID            may always; as often as needed
//	polkit = yes | no              ask polkit (org.debian.pcsc-lite.access_pcsc and access_card) instead of `allow`
//	clients_per_user = N           programs that one user may have at the service who is not root,
//	                               1 to 10000, and his connections to one reader
//	transaction_limit = SECONDS    how long a program of root's waits for a transaction before that
//	                               is ended: 1 to 3600, 0 is for ever
//	reader_states = N              entries for clients of protocol 4.5 and older, 16 to 64
//	ignore_reader = TEXT           do not use readers whose name contains TEXT; as often as needed
type Rules struct {
	Allow        Allow
	Users        []string
	Groups       []string
	Polkit       bool
	ReaderStates int // 0 when not set
	PerUser      int // clients_per_user, 0 when not set

	// TransactionLimit is 0 when it is not set, and negative for none.
	TransactionLimit time.Duration
	Ignore           []string
}

// Allow is the rule for those whom no other rule names.
type Allow string

// Values of Allow.
const (
	AllowLocal Allow = "local"
	AllowAll   Allow = "all"
	AllowNone  Allow = "none"
)

// RulesError is a line of the configuration that cannot be read.
type RulesError struct {
	File string
	Line int
	Text string
}

// Error names file and line.
func (e *RulesError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text) }

// maxRules bounds the size of the configuration in bytes.
const maxRules = 64 << 10

// ParseRules reads a configuration. Anything that is not understood is an error: a misspelt rule
// must let nobody in, and lock nobody out.
func ParseRules(file string, data []byte) (*Rules, error) {
	if len(data) > maxRules {
		return nil, &RulesError{file, 1, fmt.Sprintf("more than %d bytes", maxRules)}
	}

	r := &Rules{Allow: AllowLocal}
	seen := map[string]bool{}
	for i, line := range bytes.Split(data, []byte("\n")) {
		fail := func(format string, args ...any) (*Rules, error) {
			return nil, &RulesError{file, i + 1, fmt.Sprintf(format, args...)}
		}

		if !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
			return fail("not text")
		}

		text, _, _ := strings.Cut(string(line), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}

		name, value, ok := strings.Cut(text, "=")
		name = strings.TrimSpace(name)
		value = strings.TrimSpace(value)
		if !ok || value == "" {
			return fail("%q is not of the form name = value", text)
		}

		// The other settings add up.
		switch name {
		case "allow", "polkit", "reader_states", "clients_per_user", "transaction_limit":
			if seen[name] {
				return fail("%s is set twice", name)
			}
			seen[name] = true
		}

		if problem := r.set(name, value); problem != "" {
			return fail("%s", problem)
		}
	}
	return r, nil
}

// set enters one line, and returns what is wrong with it.
func (r *Rules) set(name, value string) (problem string) {
	switch name {
	case "allow":
		switch r.Allow = Allow(value); r.Allow {
		case AllowLocal, AllowAll, AllowNone:
			return ""
		}
		return fmt.Sprintf("allow is local, all or none, not %q", value)
	case "user":
		r.Users = append(r.Users, value)
	case "group":
		r.Groups = append(r.Groups, value)
	case "polkit":
		if value != "yes" && value != "no" {
			return fmt.Sprintf("polkit is yes or no, not %q", value)
		}
		r.Polkit = value == "yes"
	case "reader_states":
		n, err := strconv.Atoi(value)
		if err != nil || n < 16 || n > 64 {
			return fmt.Sprintf("reader_states is a number from 16 to 64, not %q", value)
		}
		r.ReaderStates = n
	case "clients_per_user":
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 10000 {
			return fmt.Sprintf("clients_per_user is a number from 1 to 10000, not %q", value)
		}
		r.PerUser = n
	case "transaction_limit":
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 || n > 3600 {
			return fmt.Sprintf("transaction_limit is a number of seconds from 1 to 3600, "+
				"or 0 for none, not %q", value)
		}
		r.TransactionLimit = time.Duration(n) * time.Second
		// 0 would be the manager's default.
		if n == 0 {
			r.TransactionLimit = -1
		}
	case "ignore_reader":
		r.Ignore = append(r.Ignore, value)
	default:
		return fmt.Sprintf("unknown setting %q", name)
	}
	return ""
}
