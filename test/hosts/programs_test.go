//go:build hosts && linux && cgo

package hosts

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"pam_pkcs11/test/hosts/program"
)

const (
	pamtester = "/usr/bin/pamtester"
	password  = "letmein-08"
)

// host is a program that authenticates alice on a terminal.
type host struct {
	name    string
	id      uint32 // the user who starts it
	command []string
	in      string // what it says when alice is in
}

const iAm = "echo I am $(id -un)"

// pamtesterHost stands for screen lockers, which run as their user.
var pamtesterHost = host{
	name:    "locker",
	id:      aliceID,
	command: []string{pamtester, "locker", "alice", "authenticate"},
	in:      "successfully authenticated",
}

var localHosts = []host{
	{name: "login", command: []string{"/bin/login", "alice"}, in: "I am alice"},
	{name: "su", id: carolID, command: []string{"/bin/su", "alice", "-c", iAm}, in: "I am alice"},
	{name: "sudo", id: aliceID, command: []string{"/usr/bin/sudo", "-k", "/bin/sh", "-c", iAm}, in: "I am root"},
	pamtesterHost,
}

// answers are what the user types at the prompts.
type answers struct {
	pin      string
	password string
	name     string // at "login:"
}

// heard is how a login went.
type heard struct {
	asked []string // "PIN", "password", "name"
	in    bool
}

// refused is what login says to somebody who is not let in, before it asks again; the other programs end.
const refused = "Login incorrect"

const (
	pinPrompt      = "Smart card PIN"
	passwordPrompt = "assword: "
	sudoPrompt     = "password for alice: "
	shellPrompt    = "$ "
	rootPrompt     = "# "
)

// logIn answers the prompts until the program says that somebody is in, or that he is not, or ends.
func logIn(t *testing.T, p *program.Terminal, in string, a answers) heard {
	t.Helper()
	var h heard
	wants := []string{in, refused, pinPrompt, sudoPrompt, passwordPrompt, shellPrompt, rootPrompt}
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	namePrompt := machine + " login: "
	if len(p.Args()) == 1 {
		wants = append(wants, namePrompt)
	}
	for {
		switch p.Next(wants...) {
		case in:
			h.in = true
			return h
		case pinPrompt:
			p.Expect(": ")
			h.asked = append(h.asked, "PIN")
			p.Enter(a.pin)
		case sudoPrompt, passwordPrompt:
			h.asked = append(h.asked, "password")
			p.Enter(a.password)
		case namePrompt:
			h.asked = append(h.asked, "name")
			p.Enter(a.name)
		case shellPrompt, rootPrompt:
			p.Enter(iAm)
		default:
			return h
		}
	}
}

var numbers = regexp.MustCompile(`Error (\d{4})`)

// check runs the program and compares. Whether a program that keeps texts from the user shows one is not looked at.
func (h host) check(t *testing.T, a answers, w want) {
	t.Helper()
	p := onTerminal(t, h.id, nil, h.command[0], h.command[1:]...)
	got := logIn(t, p, h.in, a)
	if asked := strings.Join(got.asked, " "); asked != w.asked || got.in != w.in {
		t.Errorf("asked %q, let in %v; want %q, %v:\n%s", asked, got.in, w.asked, w.in, p.Text())
	}
	var shown []string
	for _, n := range numbers.FindAllStringSubmatch(p.Text(), -1) {
		shown = append(shown, n[1])
	}
	if text := strings.Join(shown, " "); text != w.text {
		t.Errorf("shown %q, want %q:\n%s", text, w.text, p.Text())
	}
}
