package login

import (
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/login/logintest"
)

// TestWhichAccount: a card of several accounts logs in to the one that is asked for by name or, where none is, that the
// user picks once the card has proved itself. Nobody but the log learns their names before, or where nobody can be asked.
func TestWhichAccount(t *testing.T) {
	d := newTable(t, logintest.Object{})
	lines := "alice -> alice\nalice -> ops\nalice -> bell\x07\n"
	d.write("map", lines)
	mapped := `mapper cn { mapfile = "file://DIR/map"; }`
	const question = "Q Several accounts belong to this smart card:\n1) alice\n2) ops\n3) \"bell\\a\"\nNumber of the account: "
	tests := map[string]struct {
		user   string
		chosen []string
		silent bool
		global string
		want   string // login, or the reason of the refusal
		asked  int
	}{
		"by the first name":                   {"alice", nil, false, "", "alice", 0},
		"by the second name":                  {"ops", nil, false, "", "ops", 0},
		"by another name":                     {"bob", nil, false, "", "foreign_card", 0},
		"the first":                           {"", []string{"1"}, false, "", "alice", 1},
		"the second":                          {"", []string{" 2 "}, false, "", "ops", 1},
		"the second, silently":                {"", []string{"2"}, true, "quiet = true;", "ops", 1},
		"after two wrong answers":             {"", []string{"4", "ops", "2"}, false, "", "ops", 3},
		"three wrong answers":                 {"", []string{"0", "-1", "99"}, false, "", "account_not_chosen", 3},
		"nobody can be asked":                 {"", nil, false, "", "account_not_chosen", 1},
		"ask_certificate is another question": {"", []string{"2"}, false, "ask_certificate = false;", "ops", 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			who := &person{answers: []string{rightPIN}, chosen: tt.chosen}
			p := d.play(t, Request{User: tt.user, Silent: tt.silent}, who, false, tt.global+mapped)
			got := p.user
			if p.err != nil {
				got = outcomeOf(p.err)
			}
			if asked := strings.Count(strings.Join(p.events, "|"), question); got != tt.want || asked != tt.asked {
				t.Errorf("%s after %d questions, want %s after %d: %q", got, asked, tt.want, tt.asked, p.events)
			}
			if i := slices.Index(p.events, question); i >= 0 && i < slices.Index(p.events, "C C_Login") {
				t.Errorf("the names are shown before the PIN: %q", p.events)
			}
			if tt.want == "account_not_chosen" {
				last := p.events[len(p.events)-1]
				if !strings.Contains(last, "Error 2400") || strings.Contains(last, "ops") || !strings.Contains(p.log, `\"ops\"`) {
					t.Errorf("%q, log: %s", last, p.log)
				}
			}
		})
	}
}

// TestAccountsThatAreTooMany: a list that no message can hold is not shown in part.
func TestAccountsThatAreTooMany(t *testing.T) {
	d := newTable(t, logintest.Object{})
	var b strings.Builder
	for _, c := range "abcdefghij" {
		b.WriteString("alice -> " + strings.Repeat(string(c), 50) + "\n")
	}
	d.write("map", b.String())
	who := &person{answers: []string{rightPIN}, chosen: []string{"1"}}
	p := d.play(t, Request{}, who, false, `mapper cn { mapfile = "file://DIR/map"; }`)
	if outcomeOf(p.err) != "account_not_chosen" || !strings.Contains(p.log, "too many for a list") {
		t.Errorf("%s: %q\n%s", outcomeOf(p.err), p.events, p.log)
	}
}
