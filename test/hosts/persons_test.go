//go:build hosts && linux && cgo

package hosts

import (
	"testing"

	"golang.org/x/crypto/ssh"
)

// person is a login while alice's card is in the reader, and what it must come to in each stack. Where neither stack
// that demands a card says anything about somebody, he is not in the group smartcard and not in breakglass.
type person struct {
	name     string
	host     host
	pin      string // "" is alice's
	password string // "" is the right one
	upset    func(t *testing.T, b *board)

	either want // a card or the password: lineStack, profileStack
	group  want
	only   want
}

// Outcomes that many rows share.
var (
	byPassword = want{"password", "", true}
	byPIN      = want{"PIN", "", true}
	unasked    = want{"", "", true}
)

// su is the host su, by somebody, to somebody.
func su(by uint32, to string, options ...string) host {
	command := append([]string{"/bin/su"}, options...)
	return host{id: by, command: append(command, to, "-c", iAm), in: "I am " + to}
}

func loginAs(name string) host {
	return host{command: []string{"/bin/login", name}, in: "I am " + name}
}

// job is what cron and atd ask of PAM, which is no authentication.
var job = host{
	command: []string{pamtester, "cron", "alice", "acct_mgmt", "setcred(PAM_ESTABLISH_CRED)", "open_session", "close_session"},
	in:      "session has successfully been closed",
}

const endOfFile = "\x04"

var persons = []person{
	{
		name:   "su bob, by alice",
		host:   su(aliceID, "bob"),
		either: byPassword,
		group:  byPassword,
		only:   want{"", "", false},
	}, {
		name:   "su - bob, by alice",
		host:   su(aliceID, "bob", "-"),
		either: byPassword,
		group:  byPassword,
		only:   want{"", "", false},
	}, {
		name:   "login bob",
		host:   loginAs("bob"),
		either: byPassword,
		group:  byPassword,
		only:   want{"", "", false},
	}, {
		name:   "su root, by alice",
		host:   su(aliceID, "root"),
		either: byPassword,
		group:  byPassword,
		only:   byPassword,
	}, {
		name:   "login root",
		host:   loginAs("root"),
		either: byPassword,
		group:  byPassword,
		only:   byPassword,
	}, {
		name:   "su glass, by alice",
		host:   su(aliceID, "glass"),
		either: byPassword,
		group:  byPassword,
		only:   byPassword,
	}, {
		name:   "su glass, without the module",
		host:   su(aliceID, "glass"),
		upset:  withoutModule,
		either: byPassword,
		group:  byPassword,
		only:   byPassword,
	}, {
		name:   "su - alice, by bob",
		host:   su(bobID, "alice", "-"),
		either: byPIN,
		group:  byPIN,
		only:   byPIN,
	}, {
		name:   "su alice, by root",
		host:   su(0, "alice"),
		either: unasked,
		group:  unasked,
		only:   unasked,
	}, {
		name:   "login, Return at the name",
		host:   host{command: []string{"/bin/login"}, in: "I am alice"},
		either: want{"name PIN", "", true},
		group:  want{"name password", "", false},
		only:   want{"name PIN", "", true},
	}, {
		name:   "sudo -n",
		host:   host{id: aliceID, command: []string{"/usr/bin/sudo", "-n", "-k", "/bin/sh", "-c", iAm}, in: "I am root"},
		either: want{"", "", false},
		group:  want{"", "", false},
		only:   want{"", "", false},
	}, {
		name:   "a job of cron",
		host:   job,
		either: unasked,
		group:  unasked,
		only:   unasked,
	}, {
		name:   "a job of cron, without the module",
		host:   job,
		upset:  withoutModule,
		either: unasked,
		group:  unasked,
		only:   unasked,
	}, {
		name:     "nobody answers",
		host:     su(bobID, "alice"),
		pin:      endOfFile,
		password: endOfFile,
		either:   want{"PIN password", "2316", false},
		group:    want{"PIN", "2316", false},
		only:     want{"PIN", "2316", false},
	}, {
		name:   "login with an unknown name",
		host:   loginAs("nobody-here"),
		either: want{"password", "", false},
		group:  want{"password", "", false},
		only:   want{"", "", false},
	},
}

// TestPersons: who else may want to log in while alice's card is in the reader.
func TestPersons(t *testing.T) {
	withPassword(t, password)
	reader := newReader(t)
	for _, stack := range stackNames {
		t.Run(stack.name, func(t *testing.T) {
			b := withStack(t, stack.name)
			for _, p := range persons {
				t.Run(p.name, func(t *testing.T) {
					reader.configure(t, b, situation{upset: p.upset})
					p.host.check(t, p.answers(), p.want(stack.name))
				})
			}
			server := startSSHD(t, "any")
			for _, user := range []string{"alice", "bob"} {
				t.Run("ssh "+user, func(t *testing.T) {
					reader.configure(t, b, situation{})
					checkSSHD(t, server, user)
				})
			}
			t.Run("ssh with a key", func(t *testing.T) {
				if who, err := server.LogIn("alice", ssh.PublicKeys(server.Key)); who != "alice" {
					t.Errorf("%q: %v", who, err)
				}
			})
		})
	}
}

func (p person) answers() answers {
	a := answers{pin: pin, password: password}
	if p.pin != "" {
		a.pin = p.pin
	}
	if p.password != "" {
		a.password = p.password
	}
	return a
}

func (p person) want(stack string) want {
	switch stack {
	case groupStack:
		return p.group
	case onlyStack:
		return p.only
	}
	return p.either
}
