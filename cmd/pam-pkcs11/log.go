package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"pam_pkcs11/internal/audit"
	"pam_pkcs11/internal/cli"
)

// logTool is the command `pam-pkcs11 log`.
type logTool struct {
	user, since string
	sources     audit.Sources
}

// newLog is the command `pam-pkcs11 log`, of this machine's log.
func newLog() *cobra.Command { return newLogFor(&logTool{}) }

// newLogFor is the command for the log of l.
func newLogFor(l *logTool) *cobra.Command {
	command := &cobra.Command{
		Use:   "log",
		Short: "Show the logins that are in the log, one on each line",
		Long: "log reads what logins have written: from the journal, from the file of syslogd where there is no journal, and from\n" +
			"/run/pam_pkcs11/last. Each line has the time, the service, the user, how it ended, and the certificate or the reason.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return l.run(cmd) },
	}

	command.Flags().StringVar(&l.user, "user", "", "only logins of this user")
	command.Flags().StringVar(&l.since, "since", "",
		"only those since then: 2026-01-31, 2026-01-31T08:00:00+01:00, or 90m or 24h ago")
	jsonFlag(command)
	return command
}

// loggedLogin is one login. Its JSON is an interface.
type loggedLogin struct {
	Time    time.Time     `json:"time,omitzero"`
	User    string        `json:"user"`
	Service string        `json:"service"`
	Kind    string        `json:"kind"` // "auth" or "chauthtok"
	Outcome audit.Outcome `json:"outcome"`
	Reason  string        `json:"reason,omitempty"`
	Number  int           `json:"number,omitempty"` // of the message
	Check   string        `json:"check,omitempty"`  // the verifier's reason
	Detail  string        `json:"detail,omitempty"`
	Token   string        `json:"token,omitempty"`
	Subject string        `json:"subject,omitempty"` // of the certificate
	Issuer  string        `json:"issuer,omitempty"`
	Serial  string        `json:"serial,omitempty"`
	Mapper  string        `json:"mapper,omitempty"`
	TTY     string        `json:"tty,omitempty"`
	RHost   string        `json:"rhost,omitempty"`
	Took    string        `json:"took,omitempty"`
	// user id of the process, where the journal vouches for it
	Writer string `json:"written_by,omitempty"`
}

// run prints the logins of the log that were asked for.
func (l *logTool) run(cmd *cobra.Command) error {
	since, err := parseSince(l.since, time.Now())
	if err != nil {
		return &cli.Error{Code: cli.Usage, Err: err}
	}

	// What could be read is shown, even where a part could not.
	entries, failed := l.sources.Read(cmd.Context(), since)
	logins := []loggedLogin{}
	for _, e := range entries {
		// Without an outcome the entry is of another event than a login's end.
		if outcome := e.Outcome(); outcome != "" && (l.user == "" || e.User() == l.user) {
			logins = append(logins, loginOf(e, outcome))
		}
	}

	o := outputOf(cmd)
	if o.json {
		err = o.encode(logins)
	}
	for i := 0; i < len(logins) && err == nil && !o.json; i++ {
		_, err = fmt.Fprintln(o.out, logins[i].line())
	}

	if err != nil {
		return err
	}
	return notAll(len(logins) > 0, failed)
}

// notAll is the error where some of the log could not be read.
func notAll(found bool, failed error) error {
	// Who is not root gets an empty journal instead of an error: none is no answer then.
	switch {
	case errors.Is(failed, os.ErrPermission), failed == nil && !found && os.Geteuid() != 0:
		return &cli.Error{Code: cli.NoPerm,
			Err: errors.New("not all of the log can be read (run it as root)")}
	case failed != nil:
		return &cli.Error{Code: cli.Unavailable,
			Err: fmt.Errorf("not all of the log could be read: %w", failed)}
	}
	return nil
}

// parseSince reads a time, or how long ago it was. The zero time is the beginning.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	// A negative duration would be a time to come.
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05",
		"2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf(
		"--since %q is no time (2026-01-31, 2026-01-31T08:00:00+01:00, or 24h)", text)
}

// loginOf is a login as its entry in the log tells it.
func loginOf(e audit.Entry, outcome audit.Outcome) loggedLogin {
	return loggedLogin{
		Time:    e.Time,
		User:    e.User(),
		Service: e.Service,
		Kind:    e.Kind,

		Outcome: outcome,
		Reason:  e.Fields["reason"],
		Number:  e.Number(),
		Check:   e.Fields["check"],
		Detail:  e.Fields["detail"],

		Token:   e.Fields["token"],
		Subject: e.Fields["subject"],
		Issuer:  e.Fields["issuer"],
		Serial:  e.Fields["serial"],
		Mapper:  e.Fields["mapper"],

		TTY:    e.Fields["tty"],
		RHost:  e.Fields["rhost"],
		Took:   e.Fields["took"],
		Writer: e.Writer,
	}
}

// line is a login for people: time, service, user, outcome, then what there is of reason, number,
// certificate and serial.
func (l loggedLogin) line() string {
	when := "-"
	if !l.Time.IsZero() {
		when = l.Time.Local().Format("2006-01-02 15:04:05")
	}

	text := fmt.Sprintf("%s  %s  %s  %s", when, quotable(l.Service), quotable(orDash(l.User)),
		l.Outcome)
	if l.Reason != "" {
		text += "  " + quotable(l.Reason)
	}
	if l.Number != 0 {
		text += "  " + strconv.Itoa(l.Number)
	}
	if l.Subject != "" {
		text += fmt.Sprintf("  %s  %s", quotable(l.Subject), quotable(l.Serial))
	}

	// Entries of the module are written as root; of any other writer it is anybody's word.
	if l.Writer != "" && l.Writer != "0" {
		text += "  written by uid " + quotable(l.Writer)
	}
	return text
}

// orDash is "-" in the place of an empty column.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
