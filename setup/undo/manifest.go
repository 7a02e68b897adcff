package undo

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Role is what a path is for, and so in which order and how it is restored.
type Role string

// The roles of paths, in the order in which they are restored.
const (
	// service files, and what pam-auth-update remembers of them: all or none
	PAM Role = "pam"
	// profiles that pam-auth-update knows: left alone when others have come since
	Seen    Role = "seen"
	Debconf Role = "debconf" // debconf's answers: left alone when packages have changed them since
	Config  Role = "config"  // the configuration and what belongs to it
	// a list to which others add: only the lines of setup are taken out then
	Lines Role = "lines"
	Trust Role = "trust" // certificates

	// what dconf makes of keyfiles: left alone when it has made it anew since
	Compiled Role = "compiled"
)

// roles are all of them, in order.
var roles = []Role{PAM, Seen, Debconf, Config, Lines, Trust, Compiled}

// Stage is how far a setup has come.
type Stage string

// The stages of a record.
const (
	Started Stage = "started" // and cut short, if nobody is at it
	Done    Stage = "done"
	Undone  Stage = "undone"
)

// Entry is one path.
type Entry struct {
	Path   string   `json:"path"`
	Role   Role     `json:"role"`
	Before State    `json:"before"`
	After  State    `json:"after,omitzero"`  // unknown while the setup has only started
	Added  []string `json:"added,omitempty"` // with Lines: the lines that setup has added
}

// Manifest is what is known of one setup: manifest.json of its record.
type Manifest struct {
	Version  int       `json:"version"` // of this format: 1
	Number   int       `json:"number"`
	Stage    Stage     `json:"stage"`
	Time     time.Time `json:"time"`
	UndoneAt time.Time `json:"undone_at,omitzero"`
	Argv     []string  `json:"argv"` // of the program; secrets are no arguments of it
	User     string    `json:"user,omitempty"`
	// how the PAM stack was changed: "pam-auth-update"
	Family   string    `json:"family,omitempty"`
	Enabled  []string  `json:"enabled,omitempty"`   // profiles that setup has switched on
	Disabled []string  `json:"disabled,omitempty"`  // and off
	RevertAt time.Time `json:"revert_at,omitzero"`  // when it is taken back by itself; zero: never
	RevertBy string    `json:"revert_by,omitempty"` // what waits for that: "systemd" or "process"
	Entries  []Entry   `json:"entries"`
}

const (
	manifestVersion = 1
	manifestName    = "manifest.json"
	maxManifest     = 4 << 20 // in bytes
	maxEntries      = 4096
)

// allowed are the places in which setup changes anything. A manifest that names another is not
// ours.
var allowed = []string{"/etc/", "/var/lib/pam/", "/var/cache/debconf/", "/var/lib/authselect/",
	"/var/lib/dpkg/alternatives/"}

// Pending reports whether the setup will be taken back by itself.
func (m *Manifest) Pending() bool { return m.Stage != Undone && !m.RevertAt.IsZero() }

// ParseManifest reads manifest.json. What is said in it is checked as far as it can be without the
// files that it is about.
func ParseManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("the manifest is longer than %d bytes", maxManifest)
	}

	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("the manifest cannot be read: %w", err)
	}

	// Root reads it and acts on it: whoever could write it would have files of /etc overwritten.
	switch {
	case m.Version != manifestVersion:
		return nil, fmt.Errorf("the manifest has version %d; this program knows version %d",
			m.Version, manifestVersion)
	case !slices.Contains([]Stage{Started, Done, Undone}, m.Stage):
		return nil, fmt.Errorf("the manifest has the unknown stage %q", m.Stage)
	case !slices.Contains([]string{"", "systemd", "process"}, m.RevertBy):
		return nil, fmt.Errorf("the manifest is to be undone by %q", m.RevertBy)
	case len(m.Entries) > maxEntries:
		return nil, fmt.Errorf("the manifest has more than %d entries", maxEntries)
	}

	known := make(map[string]bool)
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := e.check(m.Stage); err != nil {
			return nil, fmt.Errorf("the manifest's entry for %q: %w", e.Path, err)
		}
		if known[e.Path] {
			return nil, fmt.Errorf("the manifest has %q twice", e.Path)
		}
		known[e.Path] = true
	}

	// They become arguments of a tool that root runs: none may look like a flag or be two words.
	for _, profile := range slices.Concat(m.Enabled, m.Disabled) {
		// authselect's own way to call profiles of /etc
		name := strings.TrimPrefix(profile, "custom/")
		if name == "" || strings.ContainsAny(name, " \t\n,/") || strings.HasPrefix(profile, "-") {
			return nil, fmt.Errorf("the manifest has the profile %q", profile)
		}
	}
	return &m, nil
}

// check says what cannot be in an entry.
func (e *Entry) check(stage Stage) error {
	inside := func(place string) bool { return strings.HasPrefix(e.Path, place) }
	switch {
	case path.Clean(e.Path) != e.Path || strings.ContainsRune(e.Path, 0):
		return errors.New("the path is not clean")
	case !slices.ContainsFunc(allowed, inside):
		return errors.New("setup changes nothing there")
	case !slices.Contains(roles, e.Role):
		return fmt.Errorf("the role %q is unknown", e.Role)
	}

	if err := e.Before.check(); err != nil {
		return fmt.Errorf("before: %w", err)
	}
	// Of a setup that was cut short it is not known what it has written.
	if stage == Started && e.After.Type == "" {
		return nil
	}
	if err := e.After.check(); err != nil {
		return fmt.Errorf("after: %w", err)
	}
	return nil
}

// check says what cannot be in a state that is restored.
func (s State) check() error {
	switch s.Type {
	case Absent, Dir:
	case File:
		if len(s.SHA256) != 64 || strings.Trim(s.SHA256, "0123456789abcdef") != "" {
			return errors.New("the file has no SHA-256")
		}
	case Link:
		if s.Target == "" {
			return errors.New("the link leads nowhere")
		}
	default:
		return fmt.Errorf("the type %q is unknown", s.Type)
	}

	if s.Mode > 0o7777 {
		return fmt.Errorf("the permissions %o are unknown", s.Mode)
	}
	return nil
}
