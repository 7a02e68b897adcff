package login

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/token"
)

// The pieces of talk that most rows share.
const (
	found    = "T Smart card found"
	prompt   = "P Smart card PIN: "
	askFew   = "P Smart card PIN (few tries left): "
	askLast  = "P Smart card PIN (last try): "
	proving  = "T Checking that the card holds the private key"
	fewTries = "T Warning: only a few tries"
	finalTry = "T Warning: this is the last try"
	keypad   = "T Type your PIN on the keypad of the reader"
	keypad2  = keypad + " once more, for the signature"
)

var (
	rightAnswer = []string{rightPIN}
	wrongAnswer = []string{otherPIN}
)

func greeting(label string) []string { return []string{found, "T Welcome " + label} }

func greeted(label string, rest ...string) []string { return append(greeting(label), rest...) }

// asked is the talk up to the prompt, then whatever follows.
func asked(label string, rest ...string) []string {
	return append(greeted(label, prompt), rest...)
}

func talkOf(label string) []string { return asked(label, proving) }

// good is a row of a login of alice with a card.
func good(name, card string) ending {
	return ending{name: name, card: card, user: "alice", answers: rightAnswer, said: talkOf(card), pins: 1}
}

// refused is a row of a refusal before anything is asked.
func refused(name, card string, want Outcome, message string) ending {
	e := ending{name: name, card: card, user: "alice", answers: rightAnswer, want: want}
	if message != "" {
		e.said = []string{"E Error " + message}
	}
	return e
}

// refusedPIN is a row of a refusal once the PIN was typed and sent.
func refusedPIN(name string, want Outcome, message string, happens ...happening) ending {
	e := ending{name: name, card: "alice", user: "alice", answers: rightAnswer, want: want, pins: 1, happens: happens}
	e.said = asked("alice", "E Error "+message)
	return e
}

// with changes a row.
func (e ending) with(change func(*ending)) ending {
	change(&e)
	return e
}

func (e ending) happening(h ...happening) ending {
	e.happens = h
	return e
}

func (e ending) says(said ...string) ending {
	e.said = said
	return e
}

func (e ending) types(answers ...string) ending {
	e.answers = answers
	return e
}

func TestLogins(t *testing.T) {
	playAll(t, []ending{
		good("name given", "alice"),
		good("the card names the user", "alice").with(func(e *ending) { e.user, e.login = "", "alice" }),
		good("a name of blanks asks whose card it is", "alice").with(func(e *ending) { e.user, e.login = "  ", "alice" }),
		good("P-384 key", "p384"),
		good("Ed25519 key", "ed25519"),
		good("intermediate CA on the card", "chain"),
		good("first certificate without key, second with", "keyless first").with(func(e *ending) { e.log = "certificate without usable key" }),
		good("undecodable certificate beside a good one", "junk first"),
		good("quiet keeps the information", "alice").with(func(e *ending) { e.args = []string{"quiet"} }),
		good("PAM_SILENT says nothing but the prompt", "alice").says(prompt).with(func(e *ending) { e.silent = true }),
		good("token_type in the prompt", "alice").says("T Badge found", "T Welcome alice", "P Badge PIN: ", proving).with(func(e *ending) {
			e.args = []string{"token_type=Badge"}
		}),
		good("Italian", "alice").says("T ", "T Benvenut", "P PIN", "T ").with(func(e *ending) { e.env = map[string]string{"LANG": "it_IT.UTF-8"} }),
		good("a long token_type does not hide the last try", "alice").with(func(e *ending) {
			e.silent, e.module = true, `token_type = "`+strings.Repeat("1", 600)+`";`
			e.said = []string{"P " + strings.Repeat("1", 61) + "... PIN (last try): "}
		}).happening(lastTry),
		good("an application that takes no texts", "alice").with(func(e *ending) { e.deaf = true }),
		good("a certificate that expires soon", "ends soon").with(func(e *ending) {
			e.module, e.said = "expiry_warning_days = 14;", append(talkOf("ends soon"), "T Warning: the certificate expires on ")
		}),
		good("what the options switch off is in the log", "alice").with(func(e *ending) {
			e.module, e.said, e.log = "cert_policy = ca, no_signature;", asked("alice"), "no_signature: the card does not have to prove"
		}),
		good("debug shows the steps of the check", "alice").with(func(e *ending) { e.args = []string{"debug"} }),
	})
}

func TestPINs(t *testing.T) {
	wrong := func(name string) ending {
		e := refusedPIN(name, PINIncorrect, "2320").types(otherPIN)
		e.said = asked("alice", fewTries, "E Error 2320")
		return e
	}
	unsent := func(name string, want Outcome, message string, answer string) ending {
		e := refusedPIN(name, want, message).types(answer)
		e.pins = 0
		return e
	}
	fallback := func(e *ending) { e.global, e.said = "empty_pin = fallback;", asked("alice") }
	nullok := func(e *ending) { e.args = []string{"nullok"} }
	playAll(t, []ending{
		wrong("wrong PIN"),
		wrong("wrong PIN, quiet").says(asked("alice", fewTries)...).with(func(e *ending) { e.args = []string{"quiet"} }),
		wrong("wrong PIN in find mode names nobody").with(func(e *ending) { e.user = "" }),
		wrong("wrong PIN with err_display_time").with(func(e *ending) { e.global = "err_display_time = 3;" }),
		wrong("invalid UTF-8 at the prompt is a wrong PIN").types("\xff\xfe\xfd\xfc"),
		wrong("an application that takes no texts, wrong PIN").with(func(e *ending) { e.deaf = true }),
		wrong("a wrong PIN leaves one try").says(greeted("alice", fewTries, askFew, "T Only one try is left", "E Error 2320")...).happening(fewTriesLeft),
		wrong("a wrong PIN locks").says(greeted("alice", finalTry, askLast, "E Error 2346")...).happening(lastTry).with(func(e *ending) { e.want = PINLocked }),
		wrong("a card that does not tell of tries").says(asked("alice", "E Error 2320")...).happening(tellsNothing),
		wrong("the card is pulled after a wrong PIN").says(asked("alice", "E Error 2320")...).happening(failsAt("C_GetTokenInfo", 1, token.ErrRemoved)),
		unsent("empty PIN", PINEmpty, "2318", ""),
		unsent("empty PIN, nullok, but the token's shortest PIN is 4", PINEmpty, "2318", "").with(nullok),
		unsent("empty PIN with empty_pin = fallback", EmptyPINFallback, "", "").with(fallback),
		unsent("empty PIN with nullok and empty_pin = fallback", EmptyPINFallback, "", "").with(fallback).with(nullok),
		wrong("empty PIN, nullok, shortest 0: it is sent").types("").with(nullok).happening(emptyPINs),
		unsent("empty PIN, nullok, shortest 0, but the host forbids empty secrets", PINEmpty, "2318", "").with(nullok).happening(emptyPINs).with(
			func(e *ending) { e.noEmpty = true }),
		unsent("empty PIN, shortest 0, but not nullok", PINEmpty, "2318", "").happening(emptyPINs),
		unsent("PIN shorter than the token's shortest is not sent", PINDoesNotFit, "2366", "123"),
		unsent("PIN longer than the token's longest is not sent", PINDoesNotFit, "2366", strings.Repeat("1", 300)),
		unsent("more than a PIN can be", PINNotRead, "2316", strings.Repeat("1", 1<<20)),
		unsent("a password typed at the prompt does not fit pin_pattern", PINDoesNotFit, "2366", "correct horse").with(
			func(e *ending) { e.global = `pin_pattern = "[0-9]{6,8}";` }),
		good("pin_pattern that fits", "alice").with(func(e *ending) { e.global = `pin_pattern = "[0-9]{6,8}";` }),
		unsent("nobody answers the prompt", PINNotRead, "2316", "").types(),
	})
}

func TestPINStates(t *testing.T) {
	before := func(name string, want Outcome, message string, h ...happening) ending {
		return refused(name, "alice", want, message).happening(h...)
	}
	noPIN := []happening{withoutPIN, logInNotNeeded}
	anyPIN := func(e *ending) { e.global = "require_pin = false;" }
	playAll(t, []ending{
		before("PIN locked: said before anything is asked", PINLocked, "2346", locked),
		before("PIN not initialised", PINNotInitialised, "2350", withoutPIN),
		good("last try: said before the prompt", "alice").happening(lastTry).says(greeted("alice", finalTry, askLast, proving)...),
		good("few tries left", "alice").happening(fewTriesLeft).says(greeted("alice", fewTries, askFew, proving)...),
		good("PIN to be changed lets in with a message", "alice").happening(toBeChanged).says(asked("alice", "T The PIN must be changed", proving)...),
		refusedPIN("the PIN has expired", PINExpired, "2348", fails("C_Login", token.ErrPINExpired)),
		refusedPIN("the PIN is locked after all", PINLocked, "2346", fails("C_Login", token.ErrPINLocked)),
		refusedPIN("there is no PIN after all", PINNotInitialised, "2350", fails("C_Login", token.ErrPINNotSet)),
		refusedPIN("the card takes no such PIN", PINIncorrect, "2320", fails("C_Login", token.ErrPINFormat)),
		refusedPIN("the card fails: no wrong PIN", TokenFault, "2314", fails("C_Login", token.ErrFault)),
		refusedPIN("another program resets the card", TokenFault, "2406", fails("C_Login", token.ErrReset)),
		refusedPIN("another program uses the card", TokenFault, "2404", fails("C_Login", token.ErrInUse)),
		refusedPIN("an error without a meaning", TokenFault, "2314", fails("C_Login", errors.New("vendor defined"))),
		refusedPIN("the card is pulled at the PIN", CardRemoved, "2368", fails("C_Login", token.ErrRemoved)),
		refusedPIN("another card is there at the PIN", CardRemoved, "2368", at("C_Login", exchanged)),
		refusedPIN("log-in not required: the PIN is verified all the same", PINIncorrect, "2320", logInNotNeeded).types(otherPIN).says(
			asked("alice", fewTries, "E Error 2320")...),
		refusedPIN("a card that cannot verify the PIN", PINNotVerifiable, "2360", logInNotNeeded, fails("C_Login", token.ErrPINUnsupported)),
		good("a card that cannot verify the PIN, require_pin = false", "alice").with(anyPIN).happening(
			logInNotNeeded, fails("C_Login", token.ErrPINUnsupported)),
		refusedPIN("one that wants a log-in and cannot", TokenFault, "2314", fails("C_Login", token.ErrPINUnsupported)),
		refused("a token without a PIN", "alice", PINNotVerifiable, "2360").says(greeted("alice", "E Error 2360")...).happening(noPIN...),
		good("a token without a PIN, require_pin = false", "alice").with(anyPIN).happening(noPIN...).says(greeted("alice", proving)...).with(
			func(e *ending) { e.pins, e.log = 0, "login without a PIN" }),
	})
}

func TestPINPads(t *testing.T) {
	pad := func(name, card string, want Outcome, said ...string) ending {
		e := ending{name: name, card: card, user: "alice", want: want, pins: 1}
		return e.says(greeted(card, said...)...)
	}
	twice := func(e *ending) { e.pins = 2 }
	mute := func(e *ending) { e.silent = true }
	playAll(t, []ending{
		pad("PIN pad", "alice", Success, keypad, proving).happening(atReader(rightPIN)),
		pad("PIN pad, wrong PIN", "alice", PINIncorrect, keypad, fewTries, "E Error 2320").happening(atReader(otherPIN)),
		pad("PIN pad, cancelled", "alice", PINNotRead, keypad, "E Error 2316").happening(atReader()),
		pad("PIN pad, few tries", "alice", Success, fewTries, keypad+" (few tries left)", proving).happening(fewTriesLeft, atReader(rightPIN)),
		pad("PIN pad on the last try", "alice", Success).with(mute).says(keypad+" (last try)").happening(lastTry, atReader(rightPIN)),
		pad("PIN pad: an earlier secret is not taken", "alice", Success, keypad, proving).happening(atReader(rightPIN)).with(
			func(e *ending) { e.args, e.earlier = []string{"use_first_pass"}, otherPIN }),
		pad("a key that wants the PIN for each signature", "careful", Success, prompt, proving).types(rightPIN).with(twice),
		pad("PIN pad, and such a key", "careful", Success, keypad, proving, keypad2).happening(atReader(rightPIN, rightPIN)).with(twice),
		pad("PIN pad, and such a key, PAM_SILENT", "careful", Success).says(keypad, keypad2).happening(atReader(rightPIN, rightPIN)).with(twice).with(mute),
		pad("PIN pad, the second entry cancelled", "careful", PINNotRead, keypad, proving, keypad2, "E Error 2316").happening(atReader(rightPIN)).with(twice),
		pad("PIN pad, the second entry is wrong", "careful", PINIncorrect, keypad, proving, keypad2, fewTries, "E Error 2320").happening(
			atReader(rightPIN, otherPIN)).with(twice),
		pad("PIN pad, the second entry locks", "careful", PINLocked, keypad, proving, keypad2, "E Error 2346").happening(
			atReader(rightPIN), failsAt("C_Login", 2, token.ErrPINLocked)).with(twice),
		pad("PIN pad, an application that takes no texts", "careful", Success).says(keypad, keypad2).happening(atReader(rightPIN, rightPIN)).with(twice).with(mute).with(
			func(e *ending) { e.deaf = true }),
	})
}

// TestTaken is about secrets that an earlier module of the stack left.
func TestTaken(t *testing.T) {
	const pattern = `pin_pattern = "[0-9]+";`
	use := func(name, global, earlier string, want Outcome, pins int, said ...string) ending {
		return ending{
			name: "use_first_pass " + name, card: "alice", user: "alice", args: []string{"use_first_pass"}, global: global, earlier: earlier,
			want: want, pins: pins, said: greeted("alice", said...),
		}
	}
	try := func(name, global, earlier string, want Outcome, pins int, said ...string) ending {
		e := use("", global, earlier, want, pins, said...).types(rightPIN)
		e.name, e.args = "try_first_pass "+name, []string{"try_first_pass"}
		return e
	}
	playAll(t, []ending{
		use("without an earlier secret", pattern, "", PINNotRead, 0, "E Error 2316"),
		use("with the PIN", pattern, rightPIN, Success, 1, proving),
		use("without pin_pattern: not sent", "", rightPIN, PINNotRead, 0, "E Error 2316"),
		use("with a password: not sent", "", "correct horse", PINDoesNotFit, 0, "E Error 2366"),
		use("with a wrong PIN: never asks", pattern, otherPIN, PINIncorrect, 1, fewTries, "E Error 2320").types(rightPIN),
		use("wins over try_first_pass", "", "", PINNotRead, 0, "E Error 2316").types(rightPIN).with(func(e *ending) { e.args = append(e.args, "try_first_pass") }),
		use("after a wrong PIN: not sent", pattern, rightPIN, PINNotRead, 0, "E Error 2316").happening(fewTriesLeft),
		use("never spends the last try", pattern, rightPIN, PINNotRead, 0, "E Error 2316").happening(lastTry),
		use("on a card that does not tell of tries", pattern, otherPIN, PINIncorrect, 1, "E Error 2320").happening(tellsNothing).with(
			func(e *ending) { e.log = "this token does not tell of wrong PINs" }),
		use("with more than a PIN can be", pattern, strings.Repeat("1", 1<<20), PINNotRead, 0, "E Error 2316"),
		use("of another form than pin_pattern", `pin_pattern = "[a-z]+";`, rightPIN, PINDoesNotFit, 0, "E Error 2366"),

		try("without an earlier secret asks", pattern, "", Success, 1, prompt, proving),
		try("with the PIN", pattern, rightPIN, Success, 1, proving),
		try("without pin_pattern asks", "", rightPIN, PINDoesNotFit, 0, prompt, "E Error 2366").types("12"),
		try("with a password: not sent, asks", "", "correct horse", Success, 1, prompt, proving),
		try("with a secret of another length: not sent, asks", pattern, "123", Success, 1, prompt, proving),
		try("with a secret that is too long to hand over asks", pattern, strings.Repeat("1", 600), Success, 1, prompt, proving),
		try("after a wrong PIN asks", pattern, rightPIN, Success, 1, fewTries, askFew, proving).happening(fewTriesLeft),
		try("on the last try asks", pattern, rightPIN, Success, 1, finalTry, askLast, proving).happening(lastTry),
		try("with a wrong PIN asks once", pattern, otherPIN, Success, 2, fewTries, askFew, proving),
		try("with a wrong PIN, and another one", pattern, otherPIN, PINIncorrect, 2, fewTries, askFew, "T Only one try is left", "E Error 2320").types("999999", rightPIN),
		try("with a wrong PIN, and nobody answers", pattern, otherPIN, PINIncorrect, 1, fewTries, askFew, "E Error 2320").types(),
		try("with a wrong PIN, and what cannot be one", pattern, otherPIN, PINDoesNotFit, 1, fewTries, askFew, "E Error 2366").types("1"),
		try("with a wrong PIN that locks the card", pattern, otherPIN, PINLocked, 1, "E Error 2346").happening(
			atNth("C_GetTokenInfo", 1, func(s *stage) { s.cards[0].Wrong = 3 })),
		try("where another program locks the card then", pattern, otherPIN, PINLocked, 1, fewTries, "E Error 2346").happening(
			atNth("C_GetTokenInfo", 2, func(s *stage) { s.cards[0].Wrong = 3 })),
		try("with a wrong PIN, and the card is pulled", pattern, otherPIN, PINIncorrect, 1, "E Error 2320").happening(fails("C_GetTokenInfo", token.ErrRemoved)),
		try("where the answer comes much later", pattern, otherPIN, Success, 2, fewTries, askFew, proving).happening(
			during(func(s *stage) { s.later(time.Minute) })),

		// Lockers with one field answer every question with the same text.
		try("one field: a password that cannot be the PIN", "", "correct horse", PINDoesNotFit, 0, prompt, "E Error 2366").types("correct horse", rightPIN),
		try("one field: a password that does not match pin_pattern", `pin_pattern = "[a-z]+";`, "p4ssword", PINDoesNotFit, 0, prompt, "E Error 2366").types("p4ssword"),
		try("one field: a wrong PIN is sent once", pattern, otherPIN, PINIncorrect, 1, fewTries, askFew, "E Error 2320").types(otherPIN),
		try("one field: the PIN", "", rightPIN, Success, 1, prompt, proving),
	})
}

// TestSilence is about PAM_SILENT, which sudo always says.
func TestSilence(t *testing.T) {
	silent := func(name, card string, want Outcome, said ...string) ending {
		return ending{name: name, card: card, user: "alice", silent: true, answers: rightAnswer, want: want, said: said}
	}
	sent := func(e *ending) { e.pins = 1 }
	quiet := func(e *ending) { e.args = append(e.args, "quiet") }
	waits := func(e *ending) { e.args = append(e.args, "wait_for_card") }
	playAll(t, []ending{
		silent("a wrong PIN", "alice", PINIncorrect, prompt, "E Error 2320").types(otherPIN).with(sent),
		silent("quiet: a wrong PIN", "alice", PINIncorrect, prompt).types(otherPIN).with(sent).with(quiet),
		silent("few tries left", "alice", Success, askFew).with(sent).happening(fewTriesLeft),
		silent("the last try", "alice", Success, askLast).with(sent).happening(lastTry),
		silent("quiet: the last try", "alice", Success, askLast).with(sent).with(quiet).happening(lastTry),
		silent("the last try of one of two cards", "bob+alice", Success, "P PIN of alice (last try): ").with(sent).happening(lastTry),
		silent("a wrong PIN has left one try", "alice", PINIncorrect, askFew, "T Only one try is left", "E Error 2320").types(otherPIN).with(sent).happening(fewTriesLeft),
		silent("quiet: a wrong PIN has left one try", "alice", PINIncorrect, askFew).types(otherPIN).with(sent).with(quiet).happening(fewTriesLeft),
		silent("a wrong PIN was the last try", "alice", PINLocked, askLast, "E Error 2346").types(otherPIN).with(sent).happening(lastTry),
		silent("somebody else's card", "bob", ForeignCard, "E Error 2358"),
		silent("insert a card", "", NoCard, "T Please insert your smart card", "E Error 2308").with(waits),
		silent("quiet: insert a card", "", NoCard).with(waits).with(quiet),
		silent("no card where it is one way of several", "", NoCard),
	})
}

// TestForwardPIN: only a PIN that the card has taken goes to the modules behind, and only where that is wanted.
func TestForwardPIN(t *testing.T) {
	for name, tt := range map[string]struct {
		row  ending
		want string
	}{
		"wanted":     {good("", "alice").with(func(e *ending) { e.global = "forward_pin = success;" }), rightPIN},
		"not wanted": {good("", "alice"), ""},
		"PIN pad": {good("", "alice").with(func(e *ending) { e.global = "forward_pin = success;" }).happening(
			atReader(rightPIN)).says(greeted("alice", keypad, proving)...), ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := lay(t, time.Now(), tt.row.card)
			s.request.User = "alice"
			s.user.answers = rightAnswer
			for _, h := range tt.row.happens {
				h(s)
			}
			s.configure(tt.row.global, "")
			res, err := s.auth.Authenticate(t.Context(), s.request, s.user)
			if err != nil || string(res.Forward.Bytes()) != tt.want {
				t.Errorf("%v, %d octets are forwarded", err, res.Forward.Len())
			}
			s.check()
		})
	}
}

// TestForwardedPINIsWipedWhereTheHostDeclines the login.
func TestForwardedPINIsWipedWhereTheHostDeclines(t *testing.T) {
	s := lay(t, time.Now(), "alice")
	s.request.User, s.user.answers = "alice", rightAnswer
	s.configure("forward_pin = success;", "")
	host := &keeper{}
	s.auth.Host = host
	res, err := s.auth.Authenticate(t.Context(), s.request, s.user)
	var r *Refusal
	if res != nil || !errors.As(err, &r) || r.Outcome != InternalFault || host.res.Forward.Len() != 0 {
		t.Errorf("%v, %v, %d octets are left", res, err, host.res.Forward.Len())
	}
	s.check()
}

// keeper is a host that takes results and declines them.
type keeper struct{ res *Result }

func (k *keeper) Confirms() bool { return true }
func (k *keeper) Done()          {}
func (k *keeper) Deliver(res *Result, _ error) Delivery {
	k.res = res
	return Declined
}

// TestEndOfTheRequest: when the context ends, at whatever step, the request ends as one that took too long.
func TestEndOfTheRequest(t *testing.T) {
	ended := func(name string, said ...string) ending {
		return ending{name: name, card: "alice", user: "alice", answers: rightAnswer, want: DeadlinePassed, said: append(said, "E Error 2362")}
	}
	playAll(t, []ending{
		ended("before the first question to the card").happening(endNow),
		ended("while the card is waited for", "T Please insert your smart card").happening(func(s *stage) { s.deadline(time.Second) }).with(
			func(e *ending) { e.card, e.args = "", []string{"wait_for_card"} }),
		ended("while the slots are listed").happening(hangs("C_GetSlotList")),
		ended("while the card is opened").happening(hangs("C_OpenSession")),
		ended("while the certificates are read").happening(hangs("C_FindObjects")),
		ended("while the card checks the PIN", asked("alice")...).happening(hangs("C_Login")).with(sentOne),
		ended("while the card signs", asked("alice", proving, "T Touch the smart card")...).happening(hangs("C_Sign")).with(sentOne),
		ended("while the card is looked at again", asked("alice")...).happening(hangs("C_GetTokenInfo"), during(func(s *stage) { s.later(time.Minute) })),
		ended("while the user types", asked("alice")...).happening(func(s *stage) {
			s.deadline(time.Second)
			s.user.types = 2 * time.Second
		}),
		ended("before the second certificate is proved", asked("keyless first", proving)...).happening(at("C_Sign", endNow)).with(
			func(e *ending) { e.card, e.pins = "keyless first", 1 }),
		ended("after the proof", asked("alice", proving)...).happening(at("C_Logout", endNow)).with(sentOne),
	})
}

func sentOne(e *ending) { e.pins = 1 }
