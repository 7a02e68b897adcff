package policy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
)

// names is a name service: accounts by each of their names, and groups. Names that begin with "down" are those of a
// directory that does not answer.
type names struct {
	accounts.StaticGroups
	spellings map[string]string // other name -> name of the account
	hangs     string            // the group whose lookup never ends
	panics    string            // the group whose lookup is a fault of the program
}

var errDown = errors.New("the directory does not answer")

func (n names) Lookup(name string) (*accounts.Account, error) {
	switch {
	case name == "hanging":
		select {}
	case strings.HasPrefix(name, "down"):
		return nil, errDown
	}
	if own, known := n.spellings[name]; known {
		name = own
	}
	number, known := map[string]uint32{"root": 0, "toor": 0, "alice": 1000, "bob": 1001, "carol": 1002}[name]
	if !known {
		return nil, accounts.ErrNoAccount
	}
	return &accounts.Account{Name: name, UID: number, GID: number}, nil
}

func (n names) All(func(accounts.Account) bool) error { return nil }
func (n names) UIDMin() uint32                        { return 1000 }

func (n names) Group(name string) (*accounts.Group, error) {
	switch {
	case name == n.panics:
		panic("as arranged")
	case name == n.hangs:
		select {}
	case strings.HasPrefix(name, "down"):
		return nil, errDown
	}
	return n.StaticGroups.Group(name)
}

func (n names) Of(a *accounts.Account) ([]uint32, error) {
	if n.hangs == a.Name+"'s groups" {
		select {}
	}
	if a.Name == "carol" {
		return []uint32{a.GID, 77}, nil // by way of another group, as directories nest them
	}
	return n.StaticGroups.Of(a)
}

func theNames() names {
	return names{
		StaticGroups: accounts.StaticGroups{
			"staff":      {GID: 50, Members: []string{"alice", "bob"}},
			"breakglass": {GID: 60, Members: []string{"root", "bob"}},
			"nested":     {GID: 77},
			"private":    {GID: 1000}, // alice's own
			"empty":      {GID: 70},
		},
		spellings: map[string]string{"EXAMPLE\\alice": "alice", "alice@example.org": "alice", "Alice": "alice"},
	}
}

func users(names ...string) config.People  { return config.People{Users: names} }
func groups(names ...string) config.People { return config.People{Groups: names} }

func TestFor(t *testing.T) {
	both := func(u, g string) config.People { return config.People{Users: []string{u}, Groups: []string{g}} }
	for _, row := range []struct {
		name    string
		persons config.Persons
		user    string
		want    Use
		failed  bool // because something could not be found out
	}{
		{"nobody is named", config.Persons{Others: "configured"}, "alice", Configured, false},
		{"the zero value", config.Persons{}, "alice", Configured, false},
		{"the others, without a list", config.Persons{Others: "required"}, "down-alice", Required, false},
		{"the others", config.Persons{Others: "forbidden", Required: users("bob")}, "alice", Forbidden, false},
		{"others may", config.Persons{Others: "optional", Required: users("bob")}, "alice", Optional, false},

		{"must", config.Persons{Required: users("bob", "alice")}, "alice", Required, false},
		{"must, and nothing answers", config.Persons{Required: users("down-x")}, "down-x", Required, false},
		{"typed otherwise", config.Persons{Required: users("alice")}, "EXAMPLE\\alice", Required, false},
		{"listed otherwise", config.Persons{Required: users("alice@example.org")}, "alice", Required, false},
		{"typed and listed otherwise", config.Persons{Required: users("alice@example.org")}, "Alice", Required, false},
		{"an account of the same number is another", config.Persons{Forbidden: users("root")}, "toor", Configured, false},
		{"a listed name without account", config.Persons{Required: users("nosuch")}, "alice", Configured, false},
		{"a listed name that cannot be looked up may be another of hers", config.Persons{Required: users("down-x")}, "alice", Required, true},
		{"and another name is hers", config.Persons{Forbidden: users("down-x", "EXAMPLE\\alice")}, "alice", Forbidden, false},
		{"who may cannot be looked up", config.Persons{Optional: users("down-x")}, "alice", Required, true},

		{"a member must", config.Persons{Required: groups("staff")}, "alice", Required, false},
		{"no member", config.Persons{Required: groups("staff")}, "root", Configured, false},
		{"a member by name, typed otherwise", config.Persons{Required: groups("staff")}, "Alice", Required, false},
		{"by the account's own group", config.Persons{Required: groups("private")}, "alice", Required, false},
		{"by a nested group", config.Persons{Required: groups("nested")}, "carol", Required, false},
		{"must not", config.Persons{Forbidden: groups("breakglass"), Others: "required"}, "root", Forbidden, false},
		{"not of the break-glass group", config.Persons{Forbidden: groups("breakglass"), Others: "required"}, "alice", Required, false},
		{"may", config.Persons{Optional: groups("staff"), Others: "forbidden"}, "alice", Optional, false},

		{"must before must not", config.Persons{Required: groups("staff"), Forbidden: groups("breakglass")}, "bob", Required, false},
		{"must before must not, by name", config.Persons{Required: groups("staff"), Forbidden: users("bob")}, "bob", Required, false},
		{"must not before may", config.Persons{Forbidden: groups("breakglass"), Optional: users("bob")}, "bob", Forbidden, false},
		{"must before may", config.Persons{Required: users("bob"), Optional: groups("staff")}, "bob", Required, false},

		{"a group that is not there", config.Persons{Required: groups("nosuch")}, "alice", Required, true},
		{"a group whose directory is down", config.Persons{Required: groups("down-group")}, "alice", Required, true},
		{"a break-glass group that is not there", config.Persons{Forbidden: groups("nosuch")}, "root", Required, true},
		{"one of several groups is not there", config.Persons{Forbidden: groups("empty", "nosuch")}, "root", Required, true},
		{"in one group, and another is not there", config.Persons{Forbidden: groups("nosuch", "breakglass")}, "root", Forbidden, false},
		{"a group of those who may is not there", config.Persons{Optional: groups("nosuch")}, "alice", Required, true},
		{"named as must not, while a group of must is unknown", config.Persons{Required: groups("down-group"), Forbidden: users("root")}, "root", Required, true},
		{"named as must not, and no group of must", config.Persons{Forbidden: both("root", "nosuch")}, "root", Forbidden, false},
		{"no such account", config.Persons{Forbidden: users("root")}, "nosuch", Required, true},
		{"an account that cannot be looked up", config.Persons{Forbidden: users("down-x")}, "down-x", Required, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			service := theNames()
			r := &Rules{Persons: row.persons, Accounts: service, Groups: service, Timeout: time.Minute}
			d := r.For(t.Context(), row.user)
			if d.Use != row.want || (d.Err != nil) != row.failed {
				t.Errorf("%s is %v (%s, %v), want %v", row.user, d.Use, d.Why, d.Err, row.want)
			}
			if (d.Why == "") != (d.Use == Configured) {
				t.Errorf("%v because of %q", d.Use, d.Why)
			}
		})
	}
}

func TestForNobody(t *testing.T) {
	for _, row := range []struct {
		name    string
		persons config.Persons
		want    Use
	}{
		{"nobody is named", config.Persons{}, Configured},
		{"some must", config.Persons{Required: users("alice")}, Required},
		{"a group must", config.Persons{Required: groups("staff")}, Required},
		{"all others must", config.Persons{Others: "required", Forbidden: groups("breakglass")}, Required},
		{"others may", config.Persons{Others: "optional", Forbidden: groups("breakglass")}, Optional},
		{"others may, and nobody is named", config.Persons{Others: "optional"}, Optional},
		{"others may, and a group is not there", config.Persons{Others: "optional", Forbidden: groups("nosuch")}, Required},
		{"others must not", config.Persons{Others: "forbidden"}, Configured},
		{"some must not", config.Persons{Forbidden: config.People{Users: []string{"root"}, Groups: []string{"breakglass"}}}, Configured},
		{"a group that is not there", config.Persons{Forbidden: groups("nosuch")}, Required},
		{"a group whose directory is down", config.Persons{Optional: groups("staff", "down-group")}, Required},
	} {
		service := theNames()
		r := &Rules{Persons: row.persons, Accounts: service, Groups: service}
		if d := r.ForNobody(t.Context()); d.Use != row.want {
			t.Errorf("%s: %v (%s, %v), want %v", row.name, d.Use, d.Why, d.Err, row.want)
		}
	}
}

// TestLocalNamesAskNoDirectory: who is of this machine, and in a group of this machine, is known where the directory
// does not answer, or hangs.
func TestLocalNamesAskNoDirectory(t *testing.T) {
	service := theNames()
	service.hangs = "root's groups"
	r := &Rules{
		Persons:  config.Persons{Required: users("hanging"), Forbidden: groups("breakglass"), Others: "required"},
		Accounts: service,
		Groups:   service,
		IsLocal:  func(user string) bool { return user == "root" },
		Timeout:  time.Minute,
	}
	if d := r.For(t.Context(), "root"); d.Use != Forbidden || d.Err != nil {
		t.Errorf("root: %v, %v", d.Use, d.Err)
	}
}

// TestSlowNames: a name service that hangs, or a fault of this program, means that a card is needed.
func TestSlowNames(t *testing.T) {
	service := theNames()
	service.hangs, service.panics = "hanging", "faulty"
	for _, group := range []string{"hanging", "faulty"} {
		r := &Rules{Persons: config.Persons{Forbidden: groups(group)}, Accounts: service, Groups: service, Timeout: 50 * time.Millisecond}
		if d := r.For(t.Context(), "root"); d.Use != Required || d.Err == nil {
			t.Errorf("%s: %v, %v", group, d.Use, d.Err)
		}
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r := &Rules{Persons: config.Persons{Forbidden: groups("hanging")}, Accounts: service, Groups: service}
	if d := r.For(ended, "root"); d.Use != Required || !errors.Is(d.Err, context.Canceled) {
		t.Errorf("ended: %v, %v", d.Use, d.Err)
	}
}

// TestWaitEnds: the time is that of all lookups of one decision.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		r := &Rules{Timeout: 10 * time.Second}
		began := time.Now()
		d := r.timed(t.Context(), func() Decision { <-done; return Decision{} })
		close(done)
		if took := time.Since(began); d.Use != Required || took != 10*time.Second {
			t.Errorf("%v after %v", d.Use, took)
		}
	})
}

func TestWords(t *testing.T) {
	for word, use := range words {
		if use.String() != word {
			t.Errorf("%q is %q", word, use)
		}
	}
	if Use(99).String() != "unknown" {
		t.Error(Use(99).String())
	}
}
