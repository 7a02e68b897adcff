package confcheck

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
)

// madeNames are the users and groups of a machine: staff is a group of a directory, and so is the one that is down.
func madeNames() nameService {
	return nameService{
		users: accounts.Static{Accounts: []accounts.Account{
			{Name: "root"}, {Name: "alice", UID: 1000, GID: 1000}, {Name: "glass", UID: 1001, GID: 1001},
		}},
		groups: failingGroups{accounts.StaticGroups{
			"staff":      {GID: 50, Members: []string{"alice"}},
			"local":      {GID: 51, Members: []string{"alice"}},
			"all":        {GID: 52, Members: []string{"root", "alice", "glass"}},
			"breakglass": {GID: 60, Members: []string{"root", "glass"}},
			"empty":      {GID: 70},
		}},
		isLocal:      func(name string) bool { return name != "alice" },
		isLocalGroup: func(name string) bool { return name != "staff" },
	}
}

type failingGroups struct{ accounts.StaticGroups }

func (g failingGroups) Group(name string) (*accounts.Group, error) {
	if name == "down" {
		return nil, errors.New("the directory does not answer")
	}
	return g.StaticGroups.Group(name)
}

// TestCheckPersons: what the lists close is told, and nothing where a way in is left.
func TestCheckPersons(t *testing.T) {
	const everybody = "everybody needs a card, root too"
	for _, row := range []struct {
		name, lists, service string
		want                 []string // in this order: parts of each finding
	}{
		{"no lists", "", "", nil},
		{"a local break-glass group", "card_others = required; card_forbidden_groups = breakglass;", "", nil},
		{"a group of must", "card_required_groups = local;", "", nil},
		{"by name", "card_others = required; card_forbidden_users = root;", "", nil},
		{"nobody is exempt", "card_others = required;", "", []string{everybody + ":"}},
		{"nobody in the group", "card_others = required; card_forbidden_groups = empty;", "", []string{"lists no member", everybody}},
		{"who is exempt must", "card_others = required; card_required_groups = all; card_forbidden_groups = breakglass;", "",
			[]string{"root must use a card and must not", "glass must use a card and must not", everybody}},
		{"a group that is not there", "card_required_groups = nosuch; card_forbidden_users = root;", "",
			[]string{"f.conf:2:24: there is no group nosuch", "root needs a card"}},
		{"a group that cannot be looked up", "card_required_groups = down;", "", []string{"does not answer: whom", "root needs a card"}},
		{"a group of a directory", "card_required_groups = staff;", "", []string{"staff is not in /etc/group"}},
		{"a user of a directory", "card_others = required; card_forbidden_users = alice, root;", "", []string{"alice is not in /etc/passwd"}},
		{"a user who is not there", "card_required_users = nosuch;", "", []string{"f.conf:2:23: there is no user nosuch"}},
		{"root by name", "card_required_users = root;", "", []string{"root needs a card"}},
		{"both", "card_required_users = glass; card_forbidden_users = glass;", "", []string{"glass must use a card and must not"}},
		{"a service", "", "card_others = required;", []string{"f.conf:5:9: service sudo: " + everybody}},
		{"a service of a file that says it", "card_others = required;", "card_required_users = alice;", []string{everybody}},
		{"a service about nobody", "", "card_only = true;", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := "pam_pkcs11 {\n" + row.lists + "\nuse_mappers = cn; remote_login = allow;\npkcs11_module default { }\nservice sudo { " + row.service + " }\n}\n"
			conf, err := config.Parse("f.conf", []byte(text), nil)
			if err != nil {
				t.Fatal(err)
			}

			i := &inspection{Options: Options{File: "f.conf"}, conf: conf}
			i.checkPersons(madeNames())
			if len(i.Findings) != len(row.want) {
				t.Fatalf("found %+v, want %q", i.Findings, row.want)
			}
			for n, f := range i.Findings {
				if !strings.Contains(f.Text, row.want[n]) {
					t.Errorf("%s, want %s", f.Text, row.want[n])
				}
			}
		})
	}
}

// TestCheckServices: a block of a service that has no file is named, with its place.
func TestCheckServices(t *testing.T) {
	conf, err := config.Parse("f.conf", []byte("pam_pkcs11 {\nuse_mappers = cn;\npkcs11_module default { }\nservice SUDO, nosuch { }\n}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sudo"), nil, 0o644); err != nil {
		t.Fatal(err)
	}

	i := &inspection{Options: Options{File: "f.conf"}, conf: conf}
	i.checkServices([]string{"/nonexistent", dir})
	if len(i.Findings) != 1 || !strings.HasPrefix(i.Findings[0].Text, "f.conf:4:15: there is no PAM service nosuch in /nonexistent or ") {
		t.Errorf("found %+v", i.Findings)
	}
}
