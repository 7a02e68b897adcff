//go:build cgo

package endings

import "github.com/msteinert/pam/v2"

// taken is about secrets that an earlier module of the stack left.
func taken() []ending {
	pattern := []string{`pin_pattern = "[0-9]+";`}
	use, try := []string{"use_first_pass"}, []string{"try_first_pass"}
	hello := func(rest ...string) []string { return append(greeting("alice"), rest...) }
	return []ending{
		{name: "use_first_pass without an earlier secret", card: "alice", user: "alice", args: use, global: pattern,
			code: pam.ErrCredInsufficient, said: hello("E Error 2316")},
		{name: "use_first_pass with the PIN", card: "alice", user: "alice", args: use, global: pattern, earlier: pin,
			said: hello(proving), logins: 1},
		{name: "use_first_pass without pin_pattern: not sent", card: "alice", user: "alice", args: use, earlier: pin,
			code: pam.ErrCredInsufficient, said: hello("E Error 2316")},
		{name: "use_first_pass with a password: not sent", card: "alice", user: "alice", args: use, earlier: "correct horse",
			code: pam.ErrAuth, said: hello("E Error 2366")},
		{name: "use_first_pass with a wrong PIN: never asks", card: "alice", user: "alice", args: use, global: pattern, earlier: wrongPIN,
			answers: []string{pin}, code: pam.ErrAuth, said: hello(fewTries, "E Error 2320"), logins: 1},
		{name: "use_first_pass wins over try_first_pass", card: "alice", user: "alice", args: []string{"use_first_pass", "try_first_pass"},
			answers: []string{pin}, code: pam.ErrCredInsufficient, said: hello("E Error 2316")},
		{name: "use_first_pass after a wrong PIN: not sent", card: "alice", user: "alice", args: use, global: pattern, earlier: pin,
			fault: []string{"flags count-low"}, code: pam.ErrCredInsufficient, said: hello("E Error 2316")},
		{name: "an earlier secret never spends the last try", card: "alice", user: "alice", args: use, global: pattern, earlier: pin,
			fault: []string{"flags final-try"}, code: pam.ErrCredInsufficient, said: hello("E Error 2316")},

		{name: "try_first_pass without an earlier secret asks", card: "alice", user: "alice", args: try, global: pattern, answers: []string{pin},
			said: granted("alice"), logins: 1},
		{name: "try_first_pass with the PIN", card: "alice", user: "alice", args: try, global: pattern, earlier: pin,
			said: hello(proving), logins: 1},
		{name: "try_first_pass without pin_pattern asks", card: "alice", user: "alice", args: try, earlier: pin, answers: []string{"12"},
			code: pam.ErrAuth, said: asked("alice", "E Error 2366")},
		{name: "try_first_pass with a password: not sent, asks", card: "alice", user: "alice", args: try, earlier: "correct horse",
			answers: []string{pin}, said: granted("alice"), logins: 1},
		{name: "try_first_pass with a secret of another length: not sent, asks", card: "alice", user: "alice", args: try, global: pattern,
			earlier: "123", answers: []string{pin}, said: granted("alice"), logins: 1},
		{name: "try_first_pass with a secret that is too long to hand over asks", card: "alice", user: "alice", args: try, global: pattern,
			earlier: long(600), answers: []string{pin}, said: granted("alice"), logins: 1},
		{name: "try_first_pass after a wrong PIN asks", card: "alice", user: "alice", args: try, global: pattern, earlier: pin,
			fault: []string{"flags count-low"}, answers: []string{pin}, said: hello(fewTries, askFew, proving), logins: 1},
		{name: "try_first_pass on the last try asks", card: "alice", user: "alice", args: try, global: pattern, earlier: pin,
			fault: []string{"flags final-try"}, answers: []string{pin}, said: hello(finalTry, askLast, proving), logins: 1},
		{name: "try_first_pass with a wrong PIN asks once", card: "alice", user: "alice", args: try, global: pattern, earlier: wrongPIN,
			answers: []string{pin}, said: hello(fewTries, askFew, proving), logins: 2},
		{name: "try_first_pass with a wrong PIN, and another one", card: "alice", user: "alice", args: try, global: pattern, earlier: wrongPIN,
			answers: []string{"999999", pin}, code: pam.ErrAuth, said: hello(fewTries, askFew, fewTries, "E Error 2320"), logins: 2},
		{name: "try_first_pass with a wrong PIN, and nobody answers", card: "alice", user: "alice", args: try, global: pattern,
			earlier: wrongPIN, code: pam.ErrAuth, said: hello(fewTries, askFew, "E Error 2320"), logins: 1},

		// Lockers with one field answer every question with the same text.
		{name: "one field: a password that cannot be the PIN", card: "alice", user: "alice", args: try, earlier: "correct horse",
			answers: []string{"correct horse", pin}, code: pam.ErrAuth, said: asked("alice", "E Error 2366")},
		{name: "one field: a password that does not match pin_pattern", card: "alice", user: "alice", args: try,
			global: []string{`pin_pattern = "[a-z]+";`}, earlier: "p4ssword", answers: []string{"p4ssword"}, code: pam.ErrAuth,
			said: asked("alice", "E Error 2366")},
		{name: "one field: a wrong PIN is sent once", card: "alice", user: "alice", args: try, global: pattern, earlier: wrongPIN,
			answers: []string{wrongPIN}, code: pam.ErrAuth, said: hello(fewTries, askFew, "E Error 2320"), logins: 1},
		{name: "one field: the PIN", card: "alice", user: "alice", args: try, earlier: pin, answers: []string{pin},
			said: granted("alice"), logins: 1},
	}
}
