//go:build cgo

package endings

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/msteinert/pam/v2"
)

// passwordStack goes on to what stands for the password where the module says PAM_AUTHINFO_UNAVAIL, and ends at every
// other refusal: the line of pam_pkcs11.conf(5) for lists of users and groups.
const passwordStack = `auth [success=1 authinfo_unavail=ignore ignore=ignore default=die] MODULE fail_closed
auth [success=done default=die] pam_permit.so
auth required pam_permit.so
`

// sparingStack ends where somebody is refused who must use a card, and goes on everywhere else.
const sparingStack = `auth [success=1 cred_insufficient=die default=ignore] MODULE
auth [success=done default=die] pam_permit.so
auth required pam_permit.so
`

// personRow is a user, what the configuration says of him, and whether the stack lets him in without his card's proof.
type personRow struct {
	name   string
	user   string
	card   string // "" is no card
	lists  string
	groups string // where groups are looked up (nsswitch.conf(5)); "" is in files
	rhost  string
	fault  []string
	in     bool // by what stands for the password
	said   string
}

// TestPersons: through libpam, who must use a card has no other way in, and for who must not, nothing of a card is
// touched.
func TestPersons(t *testing.T) {
	w := theWorld(t)
	everybody := "card_others = required; card_forbidden_groups = root;"
	for _, row := range []personRow{
		{name: "must, no card", user: "alice", lists: "card_required_users = alice;", said: "E Error 2422"},
		{name: "must, somebody else's card", user: "alice", card: "bob", lists: "card_required_users = alice;", said: "E Error 2358"},
		{name: "must, card of an unknown CA", user: "alice", card: "stranger", lists: "card_required_users = alice; foreign_card = skip;", said: "E Error 2354"},
		{name: "must, from another host", user: "alice", card: "alice", lists: "card_required_users = alice;", rhost: "example.org", said: "E Error 2424"},
		{name: "must, and the system does not know him", user: "alice", lists: "card_forbidden_users = root;", said: "E Error 2422"},
		{name: "must, since no name is given", lists: "card_required_users = alice;", said: "E Error 2422"},
		{name: "must, and the library crashes", user: "alice", card: "alice", lists: "card_required_users = alice;", fault: []string{"C_Initialize crash"}, said: "E Error 2390"},
		{name: "must, and the library calls exit", user: "alice", card: "alice", lists: "card_required_users = alice;", fault: []string{"C_GetSlotList exit 0"}, said: "E Error 2394"},
		{name: "all others must", user: "nobody", lists: everybody, said: "E Error 2422"},

		{name: "must not, no card", user: "root", lists: everybody, in: true},
		{name: "must not, a card is there", user: "root", card: "alice", lists: everybody, in: true},
		{name: "must not, by name", user: "nobody", card: "alice", lists: "card_forbidden_users = nobody; card_only = true;", in: true},
		{name: "may, and the library crashes", user: "nobody", card: "alice", lists: "card_optional_users = nobody;", fault: []string{"C_Initialize crash"}, in: true, said: "E Error 2390"},
		{name: "may", user: "nobody", card: "stranger", lists: "card_optional_users = nobody;", in: true},

		{name: "the group is not there", user: "root", card: "stranger", lists: "card_forbidden_groups = no-such-group;", said: "E Error 2354"},
		{name: "groups cannot be looked up", user: "root", lists: everybody, groups: "nosuchservice", said: "E Error 2422"},
		{name: "a group of must cannot be looked up", user: "nobody", lists: "card_required_groups = root;", groups: "nosuchservice", said: "E Error 2422"},
	} {
		t.Run(row.name, func(t *testing.T) { row.play(t, w) })
	}
}

// play plays a row through both stacks.
func (row personRow) play(t *testing.T, w *world) {
	if row.groups != "" {
		lookUpGroupsIn(t, row.groups)
	}
	for _, stack := range []string{passwordStack, sparingStack} {
		e := ending{
			card:   row.card,
			user:   row.user,
			rhost:  row.rhost,
			fault:  row.fault,
			global: []string{row.lists},
		}
		if row.card == "" {
			e.fault = []string{"absent"}
			e.card = "alice"
		}
		if row.in && row.fault != nil {
			stack = strings.Replace(stack, " fail_closed", "", 1) // which lets nobody past a crash
		}
		l := w.lay(t, e, 0)
		l.write(t, stack)

		h := &heard{}
		tx, err := pam.StartConfDir(l.service, row.user, h, l.services)
		if err != nil {
			t.Fatal(err)
		}
		if row.rhost != "" {
			err = tx.SetItem(pam.Rhost, row.rhost)
		}
		code := codeOf(tx.Authenticate(0))
		if err := tx.End(); err != nil {
			t.Error(err)
		}
		if err != nil || (code == success) != row.in || !row.in && code != pam.ErrCredInsufficient {
			t.Errorf("ended with %v (%d), %v; the password's way in: %v, under\n%s", code, code, err, row.in, stack)
		}

		said := strings.Join(h.lines, "\n")
		if !strings.HasPrefix(said, row.said) || row.said == "" && said != "" {
			t.Errorf("heard %q, want %q", said, row.said)
		}
		if row.in && strings.Contains(row.lists, "forbidden") {
			l.untouched(t)
		}
	}
}

// asUser tells the run of this program that belongs to a user which service to ask: directory, service and user.
const asUser = "PAM_PKCS11_TEST_ENDINGS_AS_USER"

// TestPersonsAsUser: it is the same where the program that asks, and so the worker, runs as the user, as screen lockers
// do.
func TestPersonsAsUser(t *testing.T) {
	if asked := strings.Fields(os.Getenv(asUser)); len(asked) == 3 {
		tx, err := pam.StartConfDir(asked[1], asked[2], &heard{}, asked[0])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("answer %d\n", codeOf(tx.Authenticate(0)))
		if err := tx.End(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can run a program as another user")
	}

	w := theWorld(t)
	for lists, want := range map[string]pam.Error{
		"card_forbidden_users = nobody;":                             success,
		"card_forbidden_groups = nogroup; card_others = required;":   success,
		"card_required_users = nobody; card_forbidden_users = root;": pam.ErrCredInsufficient,
		"card_forbidden_groups = no-such-group;":                     pam.ErrCredInsufficient,
	} {
		l := w.lay(t, ending{card: "bob", user: "nobody", global: []string{lists}, fault: []string{"absent"}}, 0)
		l.write(t, passwordStack)
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestPersonsAsUser$", "-test.v")
		cmd.Env = append(os.Environ(), asUser+"="+strings.Join([]string{l.services, l.service, "nobody"}, " "))
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		said, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(said), fmt.Sprintf("answer %d\n", want)) {
			t.Errorf("%s: %v, want %d:\n%s", lists, err, want, said)
		}
	}
}

// TestFailClosed: through libpam, a module that cannot answer is passed over without fail_closed, and not with it.
func TestFailClosed(t *testing.T) {
	w := theWorld(t)
	for argument, in := range map[string]bool{"": true, "fail_closed": false} {
		for name, e := range map[string]ending{
			"the configuration": {card: "alice", user: "root", global: []string{"no_such_key = 1;"}},
			"the library":       {card: "alice", user: "root", fault: []string{"C_Initialize crash"}},
		} {
			l := w.lay(t, e, 0)
			l.write(t, strings.Replace(passwordStack, "fail_closed", argument, 1))
			tx, err := pam.StartConfDir(l.service, e.user, &heard{}, l.services)
			if err != nil {
				t.Fatal(err)
			}
			if code := codeOf(tx.Authenticate(0)); (code == success) != in || !in && code != pam.ErrCredInsufficient {
				t.Errorf("%s is broken, with %q: %v (%d)", name, argument, code, code)
			}
			if err := tx.End(); err != nil {
				t.Error(err)
			}
		}
	}
}

// write replaces the lines of the service; MODULE is the module with its configuration.
func (l *laid) write(t *testing.T, stack string) {
	t.Helper()
	file := filepath.Join(l.services, l.service)
	line, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(line), "\n")
	module := strings.TrimPrefix(first, "auth "+stacks[0].control+" ")
	mustWrite(t, file, strings.ReplaceAll(stack, "MODULE", module), 0o644)
}

// untouched fails where the library was called at all.
func (l *laid) untouched(t *testing.T) {
	t.Helper()
	for _, call := range []string{"C_GetFunctionList", "C_Initialize", "C_GetSlotList", "C_OpenSession", "C_Login"} {
		n, err := l.fault.Count(call)
		if err != nil || n != 0 {
			t.Errorf("%s was called %d times: %v", call, n, err)
		}
	}
}

// lookUpGroupsIn has the C library of new processes look groups up somewhere else. It needs a nsswitch.conf of the test's
// own.
func lookUpGroupsIn(t *testing.T, service string) {
	t.Helper()
	const file = "/etc/nsswitch.conf"
	text, err := os.ReadFile(file)
	if err != nil || string(text) != services || os.Geteuid() != 0 {
		t.Skip("only root can lay a nsswitch.conf over the machine's")
	}
	t.Cleanup(func() { mustWrite(t, file, services, 0o644) })
	mustWrite(t, file, strings.Replace(services, "group: files", fmt.Sprintf("group: %s", service), 1), 0o644)
}
