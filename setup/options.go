package setup

import (
	"errors"
	"fmt"
	"io"
	"time"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/secret"
)

// Options are the answers that were given on the command line.
type Options struct {
	Argv []string // of the program, for the record

	User     string
	Library  string // a PKCS#11 library; "": the built-in card, else the libraries that are found
	Mode     doctor.Mode
	Group    string   // of the profile's condition; "": smartcard, or breakglass with mode only
	CAs      []string // files with certificates of authorities
	StoreCA  string   // SHA-256 fingerprint of an authority that the system's store has
	PinKey   bool     // pair the card's key with the account
	Mapper   string
	Settings []string // KEY=VALUE of the mapper's block
	Services []string // that get the module; empty: all, by the profile
	Config   string   // keep or replace a configuration that is there and not setup's; "": ask
	Force    []string // guards that may be hit, by number or name
	NoTest   bool     // no login is tried
	NoCard   bool     // there is none now: only the configuration and the stack
	DryRun   bool

	NoDesktop bool        // GDM's service for smart cards stays as it is
	PIN       *secret.PIN // of --pin-fd; nil: it is asked for

	// RevertAfter is when the setup is taken back if nobody confirms it (revert.Keep), from
	// revert.Min to revert.Max; 0 is never.
	RevertAfter time.Duration

	Person Person // nil: nobody is asked
}

// Person is who runs the setup, at a terminal.
type Person interface {
	Say(text message.Text)
	Show(changes []Change)
	Choose(question message.Text, answers []message.Text) (int, error)
	Ask(question message.Text) (string, error)
	Agree(question message.Text) (bool, error)
	Secret(question message.Text) (*secret.PIN, error)
}

// Result is what a setup has found and done. Its JSON is an interface.
type Result struct {
	Changed     bool               `json:"changed"`
	DryRun      bool               `json:"dry_run"`
	User        string             `json:"user"`
	Mode        doctor.Mode        `json:"mode"`
	Family      Family             `json:"family"`
	Mapper      string             `json:"mapper"`
	Card        *CardShown         `json:"card,omitempty"`
	Certificate *CertificateShown  `json:"certificate,omitempty"`
	Authorities []CertificateShown `json:"authorities,omitempty"`
	Files       []FileShown        `json:"files"`
	Logins      []LoginShown       `json:"logins"`
	Findings    diagnosis.Findings `json:"findings"`
	Forced      []string           `json:"forced,omitempty"`
	Choice      *ChoiceError       `json:"choice,omitempty"` // what has to be chosen
	Number      int                `json:"number,omitempty"` // of the record, for undo
	// when it is taken back if nobody confirms it
	RevertAt time.Time `json:"revert_at,omitzero"`
	Error    string    `json:"error,omitempty"`
}

// CardShown is the card that was found.
type CardShown struct {
	Source string `json:"source"` // "builtin", or a library
	Reader string `json:"reader"`
	Label  string `json:"label"`
	Serial string `json:"serial"`
}

// CertificateShown is a certificate as people compare it.
type CertificateShown struct {
	Subject  string `json:"subject"`
	Issuer   string `json:"issuer"`
	NotAfter string `json:"not_after"` // RFC 3339
	SHA256   string `json:"sha256"`    // of the whole certificate
	Key      string `json:"key"`       // sha256:HEX of its SubjectPublicKeyInfo
}

// FileShown is a file that is changed.
type FileShown struct {
	Path string   `json:"path"`
	New  bool     `json:"new"`
	Gone bool     `json:"gone,omitempty"`
	Diff []string `json:"diff"` // as diff -u shows it
}

// LoginShown is a login of the rehearsal.
type LoginShown struct {
	Service string `json:"service"`
	User    string `json:"user"`
	// "card", "password", "account", or "break-glass": that group's password
	Way  string   `json:"way"`
	In   bool     `json:"in"`
	Said []string `json:"said"`
}

// ChoiceError is returned where somebody has to choose and nobody is asked.
type ChoiceError struct {
	Question message.Text `json:"question"`
	Choices  []string     `json:"choices"` // flags, or values for a flag
}

// Error is the question with its choices.
func (e *ChoiceError) Error() string { return fmt.Sprintf("%s %q", e.Question, e.Choices) }

// RefusedError is returned where a check stands against the change; the findings say which.
type RefusedError struct{ Why message.Text }

// Error says why.
func (e *RefusedError) Error() string { return e.Why.String() }

// RehearsalError is returned where a login of the rehearsal did not go as it must. Nothing was
// changed.
type RehearsalError struct{ Why message.Text }

// Error says why.
func (e *RehearsalError) Error() string { return e.Why.String() }

// ConfigError is returned where the configuration would refuse every login.
type ConfigError struct{ Why message.Text }

// Error says why.
func (e *ConfigError) Error() string { return e.Why.String() }

// Sentence is what an error of Run says to a person; empty where it is one of the system's, which
// speak English.
func Sentence(err error) message.Text {
	var (
		choice    *ChoiceError
		no        *RefusedError
		rehearsal *RehearsalError
		conf      *ConfigError
	)
	switch {
	case errors.As(err, &choice):
		return message.Textf("%s %q", choice.Question, choice.Choices)
	case errors.As(err, &no):
		return no.Why
	case errors.As(err, &rehearsal):
		return rehearsal.Why
	case errors.As(err, &conf):
		return conf.Why
	}
	return message.Text{}
}

// refused makes a RefusedError.
func refused(format string, args ...any) error {
	return &RefusedError{Why: message.Textf(format, args...)}
}

// maxCA bounds a file with the certificate of an authority, in bytes.
const maxCA = 256 << 10

// readLimited reads at most so many bytes; more are an error.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("longer than %d bytes", limit)
	}
	return data, err
}
