package main

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/pcsc/access"
	"pam_pkcs11/token"
)

// pinRun is one call of `pam-pkcs11 pin` with cards in memory.
type pinRun struct {
	name    string
	card    *logintest.Card
	second  *logintest.Card // in another reader; nil is none
	happens func(*logintest.Readers)
	global  string // lines of the configuration
	args    []string
	answers []string

	code  int
	asked []string // the questions
	out   string   // what the output and the errors hold
	not   string   // what they must not hold
	pin   string   // of card afterwards; "" as before
	sent  int      // changes that reached the card
}

func aliceCard() *logintest.Card {
	return &logintest.Card{Label: "alice", Serial: "0123", PIN: "123456", MinPIN: 6, MaxPIN: 8, Counts: true, Known: 3,
		PUK: "87654321"}
}

func (r pinRun) play(t *testing.T) {
	cards := []*logintest.Card{r.card}
	if r.second != nil {
		cards = append(cards, r.second)
	}
	readers := logintest.New(cards...)
	if r.happens != nil {
		r.happens(readers)
	}
	file := filepath.Join(t.TempDir(), "pam_pkcs11.conf")
	text := "pam_pkcs11 { use_mappers = cn; " + r.global + ` pkcs11_module default { module = /memory.so; cert_policy = none; } }`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}

	var asked []string
	var given []*secret.PIN
	answers := slices.Clone(r.answers)
	tool := &pinTool{
		open: func(c *config.Config, o token.Options) (token.Module, error) { return readers.Open(c, o) },
		ask: func(question string) (*secret.PIN, error) {
			asked = append(asked, question)
			if len(answers) == 0 {
				return nil, errNotTyped
			}
			answer := answers[0]
			answers = answers[1:]
			pin, err := secret.New([]byte(answer))
			given = append(given, pin)
			return pin, err
		},
	}
	command := newPINFor(tool)
	command.SilenceErrors, command.SilenceUsage = true, true
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&out)
	command.SetArgs(append(r.args, "--config", file))
	before := r.card.PIN
	code := cli.Exit(&out, program, command.Execute())

	said := out.String()
	if code != r.code || !strings.Contains(said, r.out) || r.not != "" && strings.Contains(said, r.not) {
		t.Errorf("exit code %d, want %d; %q is to be in\n%s", code, r.code, r.out, said)
	}
	if !slices.Equal(asked, r.asked) {
		t.Errorf("asked %q, want %q", asked, r.asked)
	}
	if want := cmp.Or(r.pin, before); r.card.PIN != want {
		t.Errorf("the PIN is %q, want %q", r.card.PIN, want)
	}
	if n := readers.Count("C_SetPIN") + readers.Count("C_InitPIN"); n != r.sent || readers.Count("C_Login") != 0 {
		t.Errorf("%d changes were sent, want %d: %q", n, r.sent, readers.Calls())
	}
	for _, pin := range given {
		if pin.Len() > 0 {
			t.Error("a PIN is not wiped")
		}
	}
	for _, answer := range r.answers {
		if answer != "" && strings.Contains(said, answer) {
			t.Errorf("a PIN is shown:\n%s", said)
		}
	}
	if readers.Sessions() != 0 || code != cli.Config && readers.Count("C_Finalize") != 1 {
		t.Errorf("not all was closed: %q", readers.Calls())
	}
}

// TestPINStatus: what is known of the cards, and no try is spent.
func TestPINStatus(t *testing.T) {
	with := func(f func(*logintest.Card)) *logintest.Card {
		c := aliceCard()
		f(c)
		return c
	}
	status := []string{"status"}

	for _, r := range []pinRun{
		{name: "all is well", card: aliceCard(), args: status,
			out: "slot 1, Reader 1\n  card:   alice\n  serial: 0123\n  made:   Example, card in memory\n" +
				"  PIN:    3 tries left\n          it has 6 to 8 characters\n  PUK:    3 tries left\n"},
		{name: "two of three", card: with(func(c *logintest.Card) { c.Wrong, c.PUKWrong = 1, 2 }), args: status,
			out: "PIN:    2 tries left of 3\n          it has 6 to 8 characters\n  PUK:    one try left of 3"},
		{name: "the maker's", card: with(func(c *logintest.Card) { c.DefaultPIN, c.DefaultPUK = true, true }), args: status,
			out: "it is its maker's, which everybody knows: change it with: pam-pkcs11 pin change\n  PUK:    3 tries left\n          it is its maker's"},
		{name: "no numbers", card: with(func(c *logintest.Card) { c.Counts, c.Wrong, c.PUK = false, 1, "" }), args: status,
			out: "few tries left", not: "of 3"},
		{name: "no PUK", card: with(func(c *logintest.Card) { c.PUK = "" }), args: status, out: "PUK:    none that could be used here: this card has no PUK"},
		{name: "at the keypad", card: with(func(c *logintest.Card) { c.AtReader = true }), args: status, out: "it is typed on the reader's keypad"},
		{name: "locked", card: with(func(c *logintest.Card) { c.Wrong = 3 }), args: status, code: cli.Failure, out: "PIN:    locked after too many"},
		{name: "none was set", card: with(func(c *logintest.Card) { c.PIN = "" }), args: status, code: cli.Failure, out: "PIN:    none has been set"},
		{name: "two cards", card: aliceCard(), second: &logintest.Card{Label: "bob", PIN: "1"}, args: status, out: "card:   bob"},
		{name: "one of two cards", card: aliceCard(), second: &logintest.Card{Label: "bob", PIN: "1"}, args: []string{"status", "--token", "alice"}, out: "alice", not: "bob"},
		{name: "by reader", card: aliceCard(), second: &logintest.Card{Label: "bob", PIN: "1"}, args: []string{"status", "--reader", "Reader 2"}, out: "bob", not: "alice"},
		{name: "by slot", card: aliceCard(), second: &logintest.Card{Label: "bob", PIN: "1"}, args: []string{"status", "--slot", "2"}, out: "bob", not: "alice"},
		{name: "no such card", card: aliceCard(), args: []string{"status", "--token", "carol"}, code: cli.Unavailable, out: `"alice", not "carol"`},
		{name: "an odd slot", card: aliceCard(), args: []string{"status", "--slot", "9"}, code: cli.Unavailable, out: "slot_num is 9"},
		{name: "configuration", card: aliceCard(), global: "x = y;", args: status, code: cli.Config, out: "x"},
		{name: "a card of another kind", card: aliceCard(), args: status, code: cli.Unavailable, out: "slot 1 (Reader 1): its card is of another kind",
			happens: func(r *logintest.Readers) { r.Break(0, &token.Error{Kind: token.ErrForeign}) }},
	} {
		t.Run(r.name, r.play)
	}
}

// TestPINChange: nothing is sent that was not typed twice, and nothing is sent twice.
func TestPINChange(t *testing.T) {
	const (
		old   = "PIN of alice (3 tries left): "
		fresh = "New PIN of alice: "
		again = "New PIN of alice again: "
	)
	all := []string{old, fresh, again}
	change := func(name string, answers ...string) pinRun {
		return pinRun{name: name, card: aliceCard(), args: []string{"change"}, answers: answers, asked: all[:min(len(answers), 3)]}
	}
	with := func(r pinRun, f func(*pinRun)) pinRun { f(&r); return r }
	refused := func(r pinRun, code int, out string) pinRun { r.code, r.out = code, out; return r }
	sent := func(r pinRun, code int, out string) pinRun { r.code, r.out, r.sent = code, out, 1; return r }
	fails := func(r pinRun, err error) pinRun {
		r.happens = func(readers *logintest.Readers) { readers.Fail("C_SetPIN", err) }
		return r
	}
	right := []string{"123456", "654321", "654321"}

	for _, r := range []pinRun{
		with(sent(change("changed", right...), cli.OK, "The PIN of alice has been changed."), func(r *pinRun) { r.pin = "654321" }),
		sent(change("wrong", "111111", "654321", "654321"), cli.DataErr, "wrong PIN: 2 tries left"),
		with(sent(change("wrong, the last but one", "111111", "654321", "654321"), cli.DataErr, "wrong PIN: one try left"), func(r *pinRun) {
			r.card.Wrong, r.asked = 1, []string{"PIN of alice (2 tries left of 3): ", fresh, again}
		}),
		with(sent(change("wrong, the last", "111111", "654321", "654321"), cli.DataErr, "wrong PIN: locked"), func(r *pinRun) {
			r.card.Wrong, r.asked = 2, []string{"PIN of alice (one try left of 3): ", fresh, again}
		}),
		with(refused(change("locked"), cli.NoPerm, "pin unblock sets a new one"), func(r *pinRun) { r.card.Wrong = 3 }),
		with(refused(change("none is set"), cli.Failure, "no PIN has been set"), func(r *pinRun) { r.card.PIN = "" }),
		refused(change("too short", "97"), cli.DataErr, "has 6 to 8 characters; nothing was sent"),
		refused(change("the new one is too short", "123456", "97"), cli.DataErr, "has 6 to 8 characters"),
		refused(change("the new one is too long", "123456", "123456789"), cli.DataErr, "has 6 to 8 characters"),
		refused(change("the same", "123456", "123456"), cli.DataErr, "is the old one"),
		refused(change("not the same twice", "123456", "654321", "654322"), cli.DataErr, "are not the same"),
		with(refused(change("pin_pattern", "123456", "letters"), cli.DataErr, "does not match pin_pattern"), func(r *pinRun) { r.global = `pin_pattern = "[0-9]+";` }),
		with(refused(change("nothing is typed"), cli.Failure, "nothing was typed"), func(r *pinRun) { r.asked = all[:1] }),
		with(refused(change("the second is not typed", "123456", "654321"), cli.Failure, "nothing was typed"), func(r *pinRun) { r.asked = all }),
		with(sent(change("at the keypad"), cli.OK, "on the reader's keypad"), func(r *pinRun) {
			r.card.AtReader, r.card.Typed, r.pin = true, []string{"123456", "654321", "654321"}, "654321"
		}),
		with(sent(change("cancelled at the keypad"), cli.Failure, "was cancelled"), func(r *pinRun) { r.card.AtReader = true }),
		with(sent(change("the maker's", right...), cli.OK, "is its maker's"), func(r *pinRun) { r.card.DefaultPIN, r.pin = true, "654321" }),
		with(refused(change("two cards"), cli.Failure, "name one with --token"), func(r *pinRun) { r.second = &logintest.Card{Label: "bob", PIN: "1"} }),
		sent(fails(change("the card does not take it", right...), &token.Error{Kind: token.ErrPINFormat}), cli.DataErr, "length or of these characters"),
		sent(fails(change("without contacts", right...), &token.Error{Kind: token.ErrPINNotHere}), cli.Failure, "without contacts; nothing was changed"),
		sent(fails(change("no such PIN", right...), &token.Error{Kind: token.ErrPINUnsupported}), cli.Failure, "has no such PIN; nothing was changed"),
		sent(fails(change("the card is gone", right...), &token.Error{Kind: token.ErrRemoved}), cli.Unavailable, "removed"),
		sent(fails(change("the card is in use", right...), &token.Error{Kind: token.ErrInUse}), cli.Unavailable, "another program"),
		sent(fails(change("the card fails", right...), errors.New("vendor defined")), cli.Failure, "may have been changed"),
	} {
		t.Run(r.name, r.play)
	}
}

// TestPINUnblock: with the PUK, of which the tries are told.
func TestPINUnblock(t *testing.T) {
	const fresh, again = "New PIN of alice: ", "New PIN of alice again: "
	unblock := func(name string, code int, out string, answers ...string) pinRun {
		r := pinRun{name: name, card: aliceCard(), args: []string{"unblock"}, answers: answers, code: code, out: out}
		r.card.Wrong = 3
		if len(answers) > 0 {
			r.asked, r.sent = []string{"PUK of alice (3 tries left): ", fresh, again}[:len(answers)], len(answers)/3
		}
		return r
	}
	with := func(r pinRun, f func(*logintest.Card)) pinRun { f(r.card); return r }
	done := unblock("unblocked", cli.OK, "has been unblocked", "87654321", "654321", "654321")
	done.pin = "654321"
	last := with(unblock("wrong, the last", cli.DataErr, "wrong PUK: locked", "00000000", "654321", "654321"), func(c *logintest.Card) { c.PUKWrong = 2 })
	last.asked[0] = "PUK of alice (one try left of 3): "

	for _, r := range []pinRun{
		done,
		unblock("wrong", cli.DataErr, "wrong PUK: 2 tries left", "00000000", "654321", "654321"),
		last,
		with(unblock("the PUK is locked", cli.NoPerm, "only the card's issuer"), func(c *logintest.Card) { c.PUKWrong = 3 }),
		with(unblock("there is no PUK", cli.Failure, "cannot be unblocked here: this card has no PUK"), func(c *logintest.Card) { c.PUK = "" }),
		unblock("the new one is too short", cli.DataErr, "6 to 8 characters", "87654321", "97"),
		unblock("not the same twice", cli.DataErr, "are not the same", "87654321", "654321", "111111").without(),
	} {
		t.Run(r.name, r.play)
	}
}

// without is a run of which nothing reaches the card.
func (r pinRun) without() pinRun {
	r.sent = 0
	return r
}

// TestPINUsage: what is not understood is said before a card is looked at.
func TestPINUsage(t *testing.T) {
	for _, args := range [][]string{{"pin"}, {"pin", "status", "x"}, {"pin", "--slot", "x", "status"}, {"pin", "other"}, {"pin", "status", "--slot", "-1"}} {
		var out bytes.Buffer
		if code := run(append([]string{program}, args...), nil, &out, &out); code != cli.Usage {
			t.Errorf("%q: %d\n%s", args, code, out.String())
		}
	}
}

// TestPINWithoutReaders: whom the daemon does not serve is told who may use the readers; root is not.
func TestPINWithoutReaders(t *testing.T) {
	const command, cure = "pam-pkcs11 pin status", "run: sudo pam-pkcs11 pin status"
	for _, tt := range []struct {
		err  error
		uid  int
		cure bool
	}{
		{&access.Error{Socket: "/run/x", Reason: access.Denied}, 1000, true},
		{&access.Error{Socket: "/run/x", Reason: access.Closed}, 1000, true},
		{errors.Join(&access.Error{Reason: access.NoSocket}, &access.Error{Reason: access.NotRoot}), 1000, true},
		{&access.Error{Socket: "/run/x", Reason: access.Denied}, 0, false},
		{&access.Error{Socket: "/run/x", Reason: access.Held}, 1000, false},
		{errors.New("a library's own fault"), 1000, false},
	} {
		var said bytes.Buffer
		code := cli.Exit(&said, program, noReaders(tt.err, tt.uid, command))
		if code != cli.Unavailable || !strings.Contains(said.String(), tt.err.Error()[:10]) || strings.Contains(said.String(), cure) != tt.cure {
			t.Errorf("%v for %d: %d, %q", tt.err, tt.uid, code, said.String())
		}
	}
}

// TestWithoutConfiguration: the built-in card stands for the file in the default place alone.
func TestWithoutConfiguration(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.conf")
	if _, _, err := loadOrBuiltin(missing); err == nil {
		t.Error("a file that was named and is not there is an error")
	}
	if _, err := os.Stat(config.DefaultFile); err == nil {
		t.Logf("%s is there: what it says is used", config.DefaultFile)
		return
	}
	conf, file, err := loadOrBuiltin(config.DefaultFile)
	if err != nil || file != "" || !conf.Module.Builtin {
		t.Errorf("%v, %q, %v", conf, file, err)
	}
}
