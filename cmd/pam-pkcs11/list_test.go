package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login"
	"pam_pkcs11/login/logintest"
	"pam_pkcs11/token"
)

var listCA = testca.NewRoot("Example CA", testca.WithKey(testca.P256()))

// listRun is one call of `pam-pkcs11 list` with cards in memory.
type listRun struct {
	name    string
	cards   []*logintest.Card // nil is an empty reader
	happens func(*logintest.Readers)
	opened  error // why there is no module
	global  string
	module  string
	args    []string // --user alice where empty

	code int
	out  []string // are in the output
	not  []string
	ids  []string // of the findings, in their order
}

func (r listRun) play(t *testing.T) {
	readers := logintest.New(r.cards...)
	if r.happens != nil {
		r.happens(readers)
	}
	text := fmt.Sprintf(`pam_pkcs11 { use_mappers = cn; %s pkcs11_module default { module = /memory.so; ca_dir = DIR/ca.pem; %s } }`, r.global, r.module)
	dir := t.TempDir()
	conf := written(t, dir, map[string]string{"ca.pem": string(listCA.PEM()), "c.conf": strings.ReplaceAll(text, "DIR", dir)}, "c.conf")

	said, code := r.run(readers, dir, conf)
	if code != r.code {
		t.Errorf("exit code %d, want %d\n%s", code, r.code, said)
	}
	for _, text := range r.out {
		if !strings.Contains(said, text) {
			t.Errorf("%q is not in\n%s", text, said)
		}
	}
	for _, text := range append(r.not, "\x1b", "%!") {
		if strings.Contains(said, text) {
			t.Errorf("%q is in\n%s", text, said)
		}
	}

	data, _ := r.run(readers, dir, conf, "--json")
	var found heard
	if err := json.Unmarshal([]byte(data), &found); err != nil {
		t.Fatalf("%v\n%s", err, data)
	}
	var ids []string
	for _, f := range found.Findings {
		ids = append(ids, f.ID)
	}
	if !slices.Equal(ids, r.ids) || found.Login.AsksPIN != (r.code == 0) {
		t.Errorf("findings %q, want %q; %+v", ids, r.ids, found.Login)
	}
	if n := readers.Count("C_Login"); n != 0 || readers.Sessions() != 0 {
		t.Errorf("%d PINs were sent, %d sessions are open", n, readers.Sessions())
	}
}

// run runs the command, and returns all that it says.
func (r listRun) run(readers *logintest.Readers, dir, conf string, more ...string) (said string, code int) {
	tool := &listTool{
		login: &login.Authenticator{
			Cards:    readers,
			Accounts: accounts.Static{Accounts: []accounts.Account{{Name: "alice", UID: 1000}, {Name: "bob", UID: 1001}}},
		},
		root: dir,
	}
	if r.opened != nil {
		readers.Fail("C_Initialize", r.opened)
	}

	command := newListFor(tool)
	command.SilenceErrors, command.SilenceUsage = true, true
	var out bytes.Buffer
	command.SetOut(&out)
	command.SetErr(&out)
	args := r.args
	if args == nil {
		args = []string{"--user", "alice"}
	}
	command.SetArgs(slices.Concat(args, more, []string{"--config", conf}))
	code = cli.Exit(&out, program, command.Execute())
	return out.String(), code
}

// heard is what a program reads.
type heard struct {
	Readers []struct {
		State string
		Card  *struct {
			Label string
			PIN   struct {
				State string
				Left  *int `json:"tries_left"`
			}
			Certificates []struct {
				Place, Subject, User, Mapper, Key string
				Good                              bool
				NotAfter                          time.Time `json:"not_after"`
			}
		}
	}
	Findings []struct{ ID, Severity, Subject, Fact, Remedy string }
	Login    struct {
		User    string
		AsksPIN bool `json:"asks_pin"`
		Card    string
		Reason  string
		Cause   string
		Says    string
	}
}

// aliceHas is alice's card, changed.
func aliceHas(change func(*logintest.Card), options ...testca.Option) []*logintest.Card {
	options = append([]testca.Option{testca.WithKey(testca.P256()), testca.Subject("CN=alice")}, options...)
	c := logintest.With("alice's", "271828", listCA.Leaf("alice", options...))
	c.Counts = true
	if change != nil {
		change(c)
	}
	return []*logintest.Card{c}
}

func TestList(t *testing.T) {
	known := "allow_unknown_user = true;"
	hostile := "alice\x1b[31m"
	for _, r := range []listRun{
		{name: "alice's card", cards: aliceHas(nil), global: known,
			out: []string{"Reader 1\n", "card alice's, serial number serial of alice's", "PIN: 3 tries left", "01 CN=alice", "valid until 20",
				"good, of alice by mapper cn", "A login as alice would ask for the PIN of the card \"alice's\" now."}},
		{name: "no card", cards: []*logintest.Card{nil, nil}, global: known, code: 1,
			out: []string{"Reader 1: no card\nReader 2: no card", "-> Put the card in.", "A login as alice would not use a card now: No card is in a reader."},
			ids: []string{"no-card"}},
		{name: "mute", cards: aliceHas(nil), happens: func(r *logintest.Readers) { r.Break(0, &token.Error{Kind: token.ErrFault, Err: errors.New("mute")}) },
			global: known, code: 1, out: []string{"Reader 1: its token cannot be read", "clean and turn it"}, ids: []string{"card-mute"}},
		{name: "in use", cards: aliceHas(nil), happens: func(r *logintest.Readers) { r.Break(0, &token.Error{Kind: token.ErrInUse}) },
			global: known, code: 1, out: []string{"gpgconf --kill scdaemon"}, ids: []string{"reader-held"}},
		{name: "of another kind", cards: aliceHas(nil), happens: func(r *logintest.Readers) {
			r.Break(0, &token.Error{Kind: token.ErrForeign, Err: errors.New("no PIV")})
		},
			global: known, code: 1, out: []string{"no driver", "pam-pkcs11 atr"}, ids: []string{"no-driver"}},
		{name: "blank", cards: aliceHas(func(c *logintest.Card) { c.Blank = true }), global: known, code: 1,
			out: []string{"is not initialised"}, ids: []string{"token-blank"}},
		{name: "without certificates", cards: aliceHas(func(c *logintest.Card) { c.Objects = nil }), global: known + "certificates_after_pin = no;", code: 1,
			out: []string{"only after the PIN"}, ids: []string{"certificate-hidden"}},
		{name: "excluded", cards: aliceHas(nil), module: "token_label = another;", global: known, code: 1,
			out: []string{`Reader 1: its token is "alice's", not "another"`, "good, of alice", "Correct slot_num"}, ids: []string{"slot-excluded"}},
		{name: "a wrong PIN before", cards: aliceHas(func(c *logintest.Card) { c.Wrong = 1 }), global: known,
			out: []string{"PIN: 2 tries left"}, ids: []string{"pin-wrong"}},
		{name: "the last try", cards: aliceHas(func(c *logintest.Card) { c.Wrong = 2 }), global: known,
			out: []string{"PIN: one try left", "Type it once more only if you are sure"}, ids: []string{"pin-wrong"}},
		{name: "locked", cards: aliceHas(func(c *logintest.Card) { c.Wrong = 3 }), global: known, code: 1,
			out: []string{"PIN: locked", `pam-pkcs11 pin unblock --token "alice's"`}, ids: []string{"pin-locked"}},
		{name: "no PIN set", cards: aliceHas(func(c *logintest.Card) { c.PIN = "" }), global: known, code: 1,
			out: []string{"none has been set yet"}, ids: []string{"pin-must-be-set"}},
		{name: "to be changed", cards: aliceHas(func(c *logintest.Card) { c.ToBeChanged = true }), global: known,
			out: []string{"it must be changed"}, ids: []string{"pin-must-be-set"}},
		{name: "its maker's PIN", cards: aliceHas(func(c *logintest.Card) { c.DefaultPIN = true }), global: known,
			out: []string{"everybody knows"}, ids: []string{"pin-default"}},
		{name: "expired", cards: aliceHas(nil, testca.Expired()), global: known, code: 1,
			out: []string{"of alice by mapper cn, and not good", "has expired"}, ids: []string{"certificate-expired"}},
		{name: "bob's", cards: aliceHas(nil, testca.Subject("CN=bob")), global: known, code: 1,
			out: []string{"good, of bob by mapper cn", "somebody else's"}, ids: []string{"foreign-card"}},
		{name: "a hostile card", cards: aliceHas(func(c *logintest.Card) { c.Serial = "1\n2" }, testca.Subject("CN="+hostile)), global: known, code: 1,
			out: []string{`serial number "1\n2"`}, ids: []string{"foreign-card"}},
		{name: "junk beside it", cards: aliceHas(func(c *logintest.Card) {
			c.Objects = append(c.Objects, logintest.Object{ID: []byte{2}, Cert: &testca.Cert{DER: []byte{0x30, 3, 1, 1, 0xff}}})
		}), global: known, out: []string{"02\n", "not good: cannot be used"}},
		{name: "the daemon is not there", opened: &token.Error{Kind: token.ErrNoService, Err: errors.New("no socket")}, global: known, code: 1,
			out: []string{"systemctl start pcscd.socket"}, ids: []string{"no-daemon"}},
	} {
		t.Run(r.name, r.play)
	}
}

func TestListUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"list", "alice"}, cli.Usage, "unknown argument"},
		{[]string{"list", "--nonsense"}, cli.Usage, "unknown flag"},
		{[]string{"list", "--config", "/nonexistent.conf"}, cli.Config, "nonexistent.conf"},
	} {
		var out, errs bytes.Buffer
		if code := run(append([]string{program}, c.args...), nil, &out, &errs); code != c.code || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%q: %d\n%s%s", c.args, code, &out, &errs)
		}
	}
}

// TestListBuiltin: a PIV card's keys are called as the standard calls them.
func TestListBuiltin(t *testing.T) {
	auth, sign := listCA.Leaf("alice", testca.Subject("CN=alice")), listCA.Leaf("signs", testca.Subject("CN=signs"))
	card, err := simcard.New(simcard.Options{})
	if err == nil {
		err = errors.Join(card.SetKey(simcard.KeyAuthentication, auth.Key.Private, auth.DER), card.SetKey(simcard.KeySignature, sign.Key.Private, sign.DER))
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text := fmt.Sprintf(`pam_pkcs11 { use_mappers = cn; allow_unknown_user = true; use_pkcs11_module = builtin;
  pkcs11_module builtin { pcsc_socket = %s; card_access = system; piv_cache = no; ca_dir = %s; } }`, daemon(t, card), filepath.Join(dir, "ca.pem"))
	conf := written(t, dir, map[string]string{"ca.pem": string(listCA.PEM()), "c.conf": text}, "c.conf")

	var out, errs bytes.Buffer
	code := run([]string{program, "list", "--config", conf, "--user", "alice"}, nil, &out, &errs)
	for _, want := range []string{"Test Reader 00 00", "9A CN=alice", "9C CN=signs", "PIN: 3", "would ask for the PIN of the card"} {
		if code != 0 || !strings.Contains(out.String(), want) || errs.Len() > 0 {
			t.Errorf("%d, %q\n%s%s", code, want, &out, &errs)
		}
	}
	if n := card.Verifies(); n != 0 {
		t.Errorf("%d PINs were sent", n)
	}
}

// TestWrapped: words are not cut, whatever the terminal.
func TestWrapped(t *testing.T) {
	for width, want := range map[int]string{
		80: "one two three\n", 9: "one two\n  three\n", 3: "one\n  two\n  three\n", -2: "one\n  two\n  three\n",
	} {
		if got := wrapped("one two three", "  ", width); got != want {
			t.Errorf("%d: %q", width, got)
		}
	}
}
