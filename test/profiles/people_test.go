//go:build linux && cgo

package profiles

import (
	"strings"
	"testing"
)

// human is somebody who wants to log in while a card, alice's where nothing else is said, is in
// the reader.
type human struct {
	name    string // of the row of matrix.txt
	state          // of card and machine
	program program
	user    string
	change  func(a *attempt)
}

// Programs that several rows use.
var (
	console = program{service: "login"}
	suAlice = program{service: "su", by: aliceID, name: "alice"} // by alice
	suBob   = program{service: "su-l", by: bobID, name: "bob"}   // by bob
	ssh     = program{service: "sshd", from: "192.0.2.7"}
	cron    = program{service: "cron"}
	byRoot  = program{service: "su", name: "root"}
)

func job(a *attempt)  { a.Job = true }
func mute(a *attempt) { a.Mute = true }

// allOthers must use a card, but for members of breakglass.
const allOthers = "card_others = required; card_forbidden_groups = breakglass;"

// humans are those of matrix.txt: who else there is, and what users and groups of the
// configuration come to.
var humans = []human{
	{
		name:    "su bob, by alice",
		program: suAlice,
		user:    "bob",
	}, {
		name:    "login bob",
		program: console,
		user:    "bob",
	}, {
		name:    "su root, by alice",
		program: suAlice,
		user:    "root",
	}, {
		name:    "login root",
		program: console,
		user:    "root",
	}, {
		name:    "su glass, of breakglass",
		program: suAlice,
		user:    "glass",
	}, {
		name:    "su glass, without the module",
		program: suAlice,
		user:    "glass",
		state:   state{laid: withoutModule},
	}, {
		name:    "su glass, without the worker",
		program: suAlice,
		user:    "glass",
		state:   states["no worker"],
	}, {
		name:    "su - alice, by bob",
		program: suBob,
		user:    "alice",
	}, {
		name:    "su alice, by root",
		program: byRoot,
		user:    "alice",
	}, {
		name:    "login, Return at the name",
		program: console,
	}, {
		name:    "login with an unknown name",
		program: console,
		user:    "nobody-here",
	}, {
		name:    "nobody answers",
		program: suBob,
		user:    "alice",
		change:  mute,
	}, {
		name:    "ssh bob",
		program: ssh,
		user:    "bob",
	}, {
		name:    "ssh glass",
		program: ssh,
		user:    "glass",
	}, {
		name:    "a job of cron",
		program: cron,
		user:    "alice",
		change:  job,
	}, {
		name:    "a job, without a card",
		program: cron,
		user:    "alice",
		change:  job,
		state:   state{empty: true},
	}, {
		name:    "a job, without the module",
		program: cron,
		user:    "alice",
		change:  job,
		state:   state{laid: withoutModule},
	}, {
		name:    "a job, without the worker",
		program: cron,
		user:    "alice",
		change:  job,
		state:   states["no worker"],
	}, {
		name:    "a job, a broken configuration",
		program: cron,
		user:    "alice",
		change:  job,
		state:   states["a broken configuration"],
	}, {
		name:    "must, with the card",
		program: console,
		user:    "alice",
		state:   state{rules: "card_required_users = alice;"},
	}, {
		name:    "must, without a card",
		program: console,
		user:    "alice",
		state:   state{empty: true, rules: "card_required_users = alice;"},
	}, {
		name:    "must by group, without a card",
		program: console,
		user:    "alice",
		state:   state{empty: true, rules: "card_required_groups = smartcard;"},
	}, {
		name:    "must, since a group is unknown",
		program: console,
		user:    "alice",
		state:   state{empty: true, rules: "card_forbidden_groups = no-such-group;"},
	}, {
		name:    "may, with the card",
		program: console,
		user:    "alice",
		state:   state{rules: "card_optional_users = alice; card_others = required;"},
	}, {
		name:    "may, without a card",
		program: console,
		user:    "alice",
		state:   state{empty: true, rules: "card_optional_users = alice; card_others = required;"},
	}, {
		name:    "must not, with the card",
		program: console,
		user:    "alice",
		state:   state{rules: "card_forbidden_users = alice;"},
	}, {
		name:    "must not by group, with the card",
		program: console,
		user:    "alice",
		state:   state{rules: "card_forbidden_groups = smartcard;"},
	}, {
		name:    "bob, when all others must",
		program: console,
		user:    "bob",
		state:   state{empty: true, rules: allOthers},
	}, {
		name:    "glass, when all others must",
		program: console,
		user:    "glass",
		state:   state{empty: true, rules: allOthers},
	}, {
		name:    "root, when all others must",
		program: console,
		user:    "root",
		state:   state{empty: true, rules: allOthers},
	},
}

// TestPersonsForReal: each person of matrix.txt, as TestMatrixForReal.
func TestPersonsForReal(t *testing.T) {
	m := furnish(t)
	table := rows(t, "persons")
	for _, p := range profileList {
		t.Run(p.name, func(t *testing.T) {
			enable(t, p)
			m.services(t)
			for _, h := range humans {
				t.Run(h.name, func(t *testing.T) {
					t.Parallel()
					h.check(t, m, p, find(t, table, h.name, h.program.service).cells[p.name])
				})
			}
		})
	}
}

// check makes the login.
func (h human) check(t *testing.T, m *machine, p profile, want string) {
	over, r := h.stand(t, m, p.name)
	a := h.program.attempt(h.user)
	a.Laid = over
	if h.change != nil {
		h.change(&a)
	}
	got := a.run(t)
	if got.String() != want {
		t.Errorf("%q, want %q (%s):\n%s", got, want, got.Code, strings.Join(got.Log, "\n"))
	}
	who := h.user
	if who == "" && got.In {
		who = "alice" // whom the card names
	}
	if got.User != who {
		t.Errorf("the login is of %q", got.User)
	}
	if n := r.sent(); n > 0 && !strings.Contains(want, "PIN") {
		t.Errorf("%d PINs reached the card", n)
	}
}

// TestEachRowIsPlayed: matrix.txt has no row that nobody plays, and the evaluator of doctor is
// held to the same situations.
func TestEachRowIsPlayed(t *testing.T) {
	for _, r := range rows(t, "situations") {
		if _, known := states[r.name]; !known {
			t.Errorf("nobody plays %q", r.name)
		}
	}
	if len(states) != len(situations) || len(states) != 15 {
		t.Errorf("%d situations here, %d for the evaluator", len(states), len(situations))
	}
	for _, s := range situations {
		if _, known := states[s.name]; !known {
			t.Errorf("only the evaluator has %q", s.name)
		}
	}

	played := make(map[string]bool)
	for _, h := range humans {
		played[h.name] = true
	}
	for _, r := range rows(t, "persons") {
		if !played[r.name] {
			t.Errorf("nobody plays %q", r.name)
		}
	}
}
