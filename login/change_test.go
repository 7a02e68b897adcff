package login

import (
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/login/logintest"
	"pam_pkcs11/token"
)

const newPIN = "314159"

// change is one change of a PIN: what is given, and how it must end.
type change struct {
	name    string
	card    string // of the deck; several are separated by "+"
	user    string
	global  string
	args    []string
	happens []happening
	flags   ChangeFlags
	silent  bool
	rhost   string
	answers []string

	want Outcome
	said []string
	sent int    // PINs to be changed that reached a card
	pin  string // afterwards, where it is not as before
}

// TestChanges: the PIN is changed on the user's own card and on no other, and each fault after the first
// question is a refusal.
func TestChanges(t *testing.T) {
	const (
		begin = "T Changing the PIN of alice"
		old   = "P Current Smart card PIN: "
		few   = "P Current Smart card PIN (few tries left): "
		last  = "P Current Smart card PIN (last try): "
		fresh = "P New Smart card PIN: "
		again = "P New Smart card PIN again: "
		pad   = "T Type the current PIN, then the new one twice on the keypad"
		done  = "T The PIN has been changed"
	)
	all := []string{rightPIN, newPIN, newPIN}
	row := func(name string, want Outcome, said ...string) change {
		return change{name: name, card: "alice", user: "alice", answers: all, want: want, said: append([]string{begin}, said...)}
	}
	changed := func(name string, said ...string) change {
		c := row(name, Success, append(said, done)...)
		c.sent, c.pin = 1, newPIN
		return c
	}
	failed := func(name string, want Outcome, message string, h ...happening) change {
		c := row(name, want, old, fresh, again, "E Error "+message)
		c.sent, c.happens = 1, h
		return c
	}
	typed := func(name string, message string, answers ...string) change {
		c := row(name, ChangeRefused, append([]string{old, fresh, again}[:len(answers)], "E Error "+message)...)
		c.answers = answers
		return c
	}
	pass := func(name, card string, h ...happening) change {
		return change{name: name, card: card, user: "alice", answers: all, want: ChangeNotOurs, happens: h}
	}
	with := func(c change, f func(*change)) change { f(&c); return c }
	silent := func(c change, said ...string) change { c.silent, c.said = true, said; return c }

	for _, c := range []change{
		changed("changed", old, fresh, again),
		changed("the last try is told", finalTry, last, fresh, again).happening(lastTry),
		changed("few tries are told", fewTries, few, fresh, again).happening(fewTriesLeft),
		changed("at the keypad", pad).happening(atReader(all...)),
		silent(changed("silent"), old, fresh, again),
		silent(changed("silent, the last try is told"), last, fresh, again).happening(lastTry),
		silent(changed("silent, at the keypad"), "T Type the current PIN (last try), then the new one twice on the keypad").happening(lastTry, atReader(all...)),
		silent(failed("silent, wrong old PIN", ChangeRefused, ""), old, fresh, again, "E Error 2320").types(otherPIN, newPIN, newPIN),
		with(failed("wrong old PIN", ChangeRefused, "2320"), func(c *change) {
			c.answers, c.said = []string{otherPIN, newPIN, newPIN}, []string{begin, old, fresh, again, fewTries, "E Error 2320"}
		}),
		with(failed("wrong old PIN at the keypad", ChangeRefused, "2320", atReader(otherPIN, newPIN, newPIN)), func(c *change) {
			c.said = []string{begin, pad, fewTries, "E Error 2320"}
		}),
		with(failed("cancelled at the keypad", ChangeFailed, "", atReader()), func(c *change) { c.said = []string{begin, pad, "E Error 2372"} }),
		typed("the new ones differ", "2374", rightPIN, newPIN, otherPIN),
		typed("the new one is the old one", "2376", rightPIN, rightPIN),
		typed("the new one is too short", "2378", rightPIN, "123"),
		with(typed("the new one does not match pin_pattern", "2378", rightPIN, "letters"), func(c *change) { c.global = `pin_pattern = "[0-9]{6,8}";` }),
		typed("the old one is too short: not sent", "2366", "12"),
		typed("an empty old one: not sent", "2318", "").ending(ChangeFailed),
		typed("an empty new one: not sent", "2318", rightPIN, "").ending(ChangeFailed),
		row("nobody answers", ChangeFailed, old, "E Error 2316").types(),
		row("nobody answers the second question", ChangeFailed, old, fresh, "E Error 2316").types(rightPIN),
		row("nobody answers the third", ChangeFailed, old, fresh, again, "E Error 2316").types(rightPIN, newPIN),
		with(row("the PIN is locked", ChangeFailed).happening(locked), func(c *change) { c.said = []string{"E Error 2346"} }),
		with(row("no PIN was set", ChangeFailed).happening(withoutPIN), func(c *change) { c.said = []string{"E Error 2350"} }),
		failed("the card refuses the new one", ChangeRefused, "2378", fails("C_SetPIN", token.ErrPINFormat)),
		failed("the PIN is locked by then", ChangeRefused, "2346", fails("C_SetPIN", token.ErrPINLocked)),
		failed("the card is pulled", ChangeRefused, "2368", fails("C_SetPIN", token.ErrRemoved)),
		failed("another card is there", ChangeRefused, "2368", at("C_SetPIN", exchanged)),
		failed("another program keeps the card", ChangeRefused, "2404", fails("C_SetPIN", token.ErrInUse)),
		failed("other programs reset the card", ChangeRefused, "2406", fails("C_SetPIN", token.ErrReset)),
		failed("a card that is not inserted", ChangeRefused, "2408", fails("C_SetPIN", token.ErrPINNotHere)),
		changed("the tries are counted", "T Warning: 2 tries are left", "P Current Smart card PIN (2 tries left): ", fresh, again).happening(counted(1, 3)),
		with(failed("wrong old PIN, counted", ChangeRefused, "2320", counted(1, 3)), func(c *change) {
			c.answers = []string{otherPIN, newPIN, newPIN}
			c.said = []string{begin, "T Warning: 2 tries are left", "P Current Smart card PIN (2 tries left): ", fresh, again,
				"T Only one try is left", "E Error 2320"}
		}),
		failed("the card fails while it changes the PIN", ChangeRefused, "2398", fails("C_SetPIN", token.ErrFault)),
		failed("the time is over while the card changes the PIN", ChangeRefused, "2398", hangs("C_SetPIN")),
		failed("the card does not change PINs", ChangeFailed, "2372", fails("C_SetPIN", token.ErrNotSupported)),
		with(row("another card is there when the answer comes late", ChangeFailed, old, fresh, again, "T Checking the certificate", "E Error 2368"), func(c *change) {
			c.happens = []happening{during(func(s *stage) { exchanged(s); s.later(6 * time.Minute) })}
		}),
		with(changed("the answer comes late", old, fresh, again, "T Checking the certificate"), func(c *change) {
			c.happens = []happening{during(func(s *stage) { s.later(6 * time.Minute) })}
		}),

		pass("somebody else's card: no opinion", "bob"),
		pass("an expired certificate: no opinion", "expired"),
		pass("no card: no opinion", ""),
		pass("a card that hides its certificates: no opinion", "alice", hides),
		pass("a card that cannot be opened: no opinion", "alice", fails("C_OpenSession", token.ErrFault)),
		with(pass("root for alice: no opinion", "alice"), func(c *change) { c.flags.RootForAnother = true }),
		with(pass("only what has expired: no opinion", "alice"), func(c *change) { c.flags.ExpiredOnly = true }),
		with(pass("no user: no opinion", "alice"), func(c *change) { c.user = "" }),
		with(pass("from another host: no opinion", "alice"), func(c *change) { c.rhost = "192.0.2.7" }),
		with(pass("the first pass only looks", "alice"), func(c *change) { c.flags.Prelim, c.want = true, Success }),
		with(pass("two cards: the user's own", "bob+alice"), func(c *change) {
			c.want, c.said = Success, []string{begin, old, fresh, again, done}
			c.sent, c.pin = 1, newPIN
		}),
		with(pass("the configuration is wrong", "alice"), func(c *change) { c.global, c.want, c.said = "x = y;", ChangeFailed, []string{"E Error 2364"} }),
		with(pass("the mappers cannot be set up", "alice"), func(c *change) {
			c.args, c.want, c.said = []string{"ca_dir=/nonexistent"}, ChangeFailed, []string{"E Error 2364"}
		}),
		with(pass("token_uri is none", "alice"), func(c *change) {
			c.args, c.want, c.said = []string{"token_uri=x:y"}, ChangeFailed, []string{"E Error 2364"}
		}),
		with(pass("the module is not there", "alice", fails("C_Initialize", errors.New("none"))), func(c *change) { c.want, c.said = ChangeFailed, []string{"E Error 2302"} }),
		with(pass("the module takes no variables", "alice", fails("Prepare", errors.New("none"))), func(c *change) { c.want, c.said = ChangeFailed, []string{"E Error 2302"} }),
		with(pass("the slots cannot be listed", "alice", fails("C_GetSlotList", token.ErrFault)), func(c *change) { c.want, c.said = ChangeFailed, []string{"E Error 2304"} }),
	} {
		t.Run(c.name, c.play)
	}
}

func (c change) happening(h ...happening) change {
	c.happens = h
	return c
}

func (c change) types(answers ...string) change {
	c.answers = answers
	return c
}

func (c change) ending(want Outcome) change {
	c.want = want
	return c
}

func (c change) play(t *testing.T) {
	machine := time.Now()
	theDeck()
	synctest.Test(t, func(t *testing.T) {
		s := lay(t, machine, splitCards(c.card)...)
		s.request = Request{User: c.user, RHost: c.rhost, Silent: c.silent, Args: slices.Clone(c.args), HostPID: os.Getpid()}
		s.configure(c.global, "")
		s.user.answers = slices.Clone(c.answers)
		s.user.types = 500 * time.Millisecond // of the bubble
		for _, h := range c.happens {
			h(s)
		}
		before := make(map[*logintest.Card]string)
		eachCard(s, func(k *logintest.Card) { before[k] = k.PIN })

		err := s.auth.ChangePIN(s.context, s.request, c.flags, s.user)
		got := Success
		var r *Refusal
		if errors.As(err, &r) {
			got = r.Outcome
		}
		if got != c.want || (err != nil) != (r != nil) {
			t.Errorf("%v: %v, want %v", got, err, c.want)
		}
		if n := s.readers.Count("C_SetPIN"); n != c.sent || s.readers.Count("C_Login") != 0 {
			t.Errorf("%d PINs were sent, want %d; %q", n, c.sent, s.readers.Calls())
		}
		sameTalk(t, s.user.heard("W"), c.said)
		eachCard(s, func(k *logintest.Card) {
			want := before[k]
			if c.pin != "" && k.Label == "alice" {
				want = c.pin
			}
			if k.PIN != want {
				t.Errorf("the PIN of %s is %q, want %q", k.Label, k.PIN, want)
			}
		})
		s.check()
		time.Sleep(time.Hour) // what still runs ends
	})
}
