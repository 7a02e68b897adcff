//go:build cgo

package endings

import "github.com/msteinert/pam/v2"

// silent is about PAM_SILENT, which sudo always says, and about applications that show prompts alone.
func silent() []ending {
	ok, wrong := []string{pin}, []string{wrongPIN}
	const (
		pad   = "T Type your PIN on the keypad of the reader"
		again = pad + " once more, for the signature"
	)
	return []ending{
		{name: "PAM_SILENT: a wrong PIN", card: "alice", user: "alice", silent: true, answers: wrong, code: pam.ErrAuth,
			said: []string{prompt, "E Error 2320"}, logins: 1},
		{name: "PAM_SILENT, quiet: a wrong PIN", card: "alice", user: "alice", silent: true, args: []string{"quiet"}, answers: wrong,
			code: pam.ErrAuth, said: []string{prompt}, logins: 1},
		{name: "PAM_SILENT: few tries left", card: "alice", user: "alice", silent: true, fault: []string{"flags count-low"}, answers: ok,
			said: []string{askFew}, logins: 1},
		{name: "PAM_SILENT: the last try", card: "alice", user: "alice", silent: true, fault: []string{"flags final-try"}, answers: ok,
			said: []string{askLast}, logins: 1},
		{name: "PAM_SILENT, quiet: the last try", card: "alice", user: "alice", silent: true, args: []string{"quiet"},
			fault: []string{"flags final-try"}, answers: ok, said: []string{askLast}, logins: 1},
		{name: "PAM_SILENT: the last try of one of two cards", card: "bob+alice", user: "alice", silent: true,
			fault: []string{"flags final-try"}, answers: ok, said: []string{"P PIN of alice (last try): "}, logins: 1},
		{name: "PAM_SILENT: a wrong PIN has left one try", card: "alice", user: "alice", silent: true, fault: []string{"tries 2"},
			answers: wrong, code: pam.ErrAuth, said: []string{askFew, "T Only one try is left", "E Error 2320"}, logins: 1},
		{name: "PAM_SILENT: a wrong PIN was the last try", card: "alice", user: "alice", silent: true, fault: []string{"tries 1"},
			answers: wrong, code: pam.ErrAuth, said: []string{askLast, "E Error 2346"}, logins: 1},
		{name: "PAM_SILENT: somebody else's card", card: "bob", user: "alice", silent: true, answers: ok, code: pam.ErrCredInsufficient,
			said: []string{"E Error 2358"}},
		{name: "PAM_SILENT: insert a card", user: "alice", silent: true, args: []string{"wait_for_card"},
			global: []string{"wait_for_card_timeout = 1;"}, code: pam.ErrAuthinfoUnavail,
			said: []string{"T Please insert your smart card", "E Error 2308"}},
		{name: "PAM_SILENT, quiet: insert a card", user: "alice", silent: true, args: []string{"wait_for_card", "quiet"},
			global: []string{"wait_for_card_timeout = 1;"}, code: pam.ErrAuthinfoUnavail},
		{name: "PAM_SILENT: no card where it is one way of several", user: "alice", silent: true, code: pam.ErrAuthinfoUnavail},
		{name: "PAM_SILENT: PIN pad", card: "alice", user: "alice", silent: true, fault: []string{"flags protected-path"},
			said: []string{pad}, logins: 1},
		{name: "PAM_SILENT: PIN pad on the last try", card: "alice", user: "alice", silent: true,
			fault: []string{"flags 20100 0", "pad " + pin}, said: []string{pad + " (last try)"}, logins: 1},

		{name: "a key that wants the PIN for each signature", card: "careful", user: "alice", answers: ok, said: granted("careful"), logins: 2},
		{name: "PIN pad, and a key that wants the PIN for each signature", card: "careful", user: "alice",
			fault: []string{"flags protected-path"}, said: append(greeting("careful"), pad, proving, again), logins: 2},
		{name: "PAM_SILENT: PIN pad, and a key that wants the PIN for each signature", card: "careful", user: "alice", silent: true,
			fault: []string{"flags protected-path"}, said: []string{pad, again}, logins: 2},
		{name: "PIN pad, the second entry cancelled", card: "careful", user: "alice",
			fault: []string{"flags protected-path", "fault C_Login 2 return 0x50"}, code: pam.ErrCredInsufficient,
			said: append(greeting("careful"), pad, proving, again, "E Error 2316"), logins: 2},
		{name: "PIN pad, the second entry is the last try and wrong", card: "careful", user: "alice",
			fault: []string{"flags protected-path", "fault C_Login 2 return 0xA4"}, code: pam.ErrAuth,
			said: append(greeting("careful"), pad, proving, again, "E Error 2346"), logins: 2},

		{name: "an application that takes no texts", card: "alice", user: "alice", deaf: true, answers: ok, said: granted("alice"), logins: 1},
		{name: "an application that takes no texts, wrong PIN", card: "alice", user: "alice", deaf: true, answers: wrong, code: pam.ErrAuth,
			said: asked("alice", fewTries, "E Error 2320"), logins: 1},
		{name: "an application that takes no texts, PIN pad", card: "careful", user: "alice", deaf: true, silent: true,
			fault: []string{"flags protected-path"}, said: []string{pad, again}, logins: 2},
		{name: "an application that takes no texts, a card is inserted", card: "alice", user: "alice", deaf: true, args: []string{"wait_for_card"},
			global: []string{"wait_for_card_timeout = 20;"}, fault: []string{"insert when asked"}, answers: ok,
			said: append([]string{"T Please insert your smart card"}, granted("alice")...), logins: 1},
		{name: "a long token_type does not hide the last try", card: "alice", user: "alice", silent: true, fault: []string{"flags final-try"},
			module: []string{`token_type = "` + long(600) + `";`}, answers: ok,
			said: []string{"P " + long(61) + "... PIN (last try): "}, logins: 1},
	}
}
