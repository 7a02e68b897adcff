//go:build cgo

package endings

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/msteinert/pam/v2"
)

const newPIN = "314159"

// change is one pam_chauthtok: what is given, and how it must end. root acts for itself, since for somebody else the
// module has no opinion; libpam calls that PAM_PERM_DENIED where it is the only module.
type change struct {
	name    string
	card    string // "" is an empty reader
	user    string
	global  []string
	fault   []string
	flags   pam.Flags
	answers []string

	code  pam.Error
	said  []string
	sent  int    // C_SetPIN calls
	after string // the PIN that logs in afterwards
}

func changes() []change {
	old, fresh, again := "P Current Smart card PIN: ", "P New Smart card PIN: ", "P New Smart card PIN again: "
	oldLast := "P Current Smart card PIN (last try): "
	begin := []string{"T Changing the PIN of root"}
	talk := func(rest ...string) []string { return append(append([]string{}, begin...), rest...) }
	all := []string{pin, newPIN, newPIN}
	return []change{
		{name: "changed", card: "root", user: "root", answers: all, said: talk(old, fresh, again, "T The PIN has been changed"), sent: 1, after: newPIN},
		{name: "silent", card: "root", user: "root", flags: pam.Silent, answers: all, said: []string{old, fresh, again}, sent: 1, after: newPIN},
		{name: "wrong old PIN", card: "root", user: "root", answers: []string{wrongPIN, newPIN, newPIN}, code: pam.ErrAuthtok,
			said: talk(old, fresh, again, "T Warning: only a few tries", "E Error 2320"), sent: 1, after: pin},
		{name: "the new ones differ", card: "root", user: "root", answers: []string{pin, newPIN, wrongPIN}, code: pam.ErrAuthtok,
			said: talk(old, fresh, again, "E Error 2374"), after: pin},
		{name: "the new one is the old one", card: "root", user: "root", answers: []string{pin, pin}, code: pam.ErrAuthtok,
			said: talk(old, fresh, "E Error 2376"), after: pin},
		{name: "the new one is too short", card: "root", user: "root", answers: []string{pin, "123"}, code: pam.ErrAuthtok,
			said: talk(old, fresh, "E Error 2378"), after: pin},
		{name: "the new one does not match pin_pattern", card: "root", user: "root", global: []string{`pin_pattern = "[0-9]{6,8}";`},
			answers: []string{pin, "letters"}, code: pam.ErrAuthtok, said: talk(old, fresh, "E Error 2378"), after: pin},
		{name: "the old one is too short: not sent", card: "root", user: "root", answers: []string{"12"}, code: pam.ErrAuthtok,
			said: talk(old, "E Error 2366"), after: pin},
		{name: "an empty old one: not sent", card: "root", user: "root", answers: []string{""}, code: pam.ErrAuthtok, said: talk(old, "E Error 2318"), after: pin},
		{name: "an empty new one: not sent", card: "root", user: "root", answers: []string{pin, ""}, code: pam.ErrAuthtok, said: talk(old, fresh, "E Error 2318"), after: pin},
		{name: "nobody answers", card: "root", user: "root", code: pam.ErrAuthtok, said: talk(old, "E Error 2316"), after: pin},
		{name: "nobody answers again", card: "root", user: "root", answers: []string{pin, newPIN}, code: pam.ErrAuthtok, said: talk(old, fresh, again, "E Error 2316"), after: pin},
		{name: "the PIN is locked", card: "root", user: "root", fault: []string{"flags locked"}, code: pam.ErrAuthtok, said: []string{"E Error 2346"}, after: pin},
		{name: "the last try is told", card: "root", user: "root", fault: []string{"flags final-try"}, answers: all,
			said: talk(finalTry, oldLast, fresh, again, "T The PIN has been changed"), sent: 1, after: newPIN},
		{name: "silent, the last try is told", card: "root", user: "root", flags: pam.Silent, fault: []string{"flags final-try"}, answers: all,
			said: []string{oldLast, fresh, again}, sent: 1, after: newPIN},
		{name: "silent, at the keypad", card: "root", user: "root", flags: pam.Silent, fault: []string{"flags 20100 0", "pad " + pin, "padnew " + newPIN},
			said: []string{"T Type the current PIN (last try), then the new one twice on the keypad"}, sent: 1, after: newPIN},
		{name: "silent, few tries are told", card: "root", user: "root", flags: pam.Silent, fault: []string{"flags count-low"}, answers: all,
			said: []string{"P Current Smart card PIN (few tries left): ", fresh, again}, sent: 1, after: newPIN},
		{name: "silent, wrong old PIN", card: "root", user: "root", flags: pam.Silent, answers: []string{wrongPIN, newPIN, newPIN}, code: pam.ErrAuthtok,
			said: []string{old, fresh, again, "E Error 2320"}, sent: 1, after: pin},
		{name: "silent, the new ones differ", card: "root", user: "root", flags: pam.Silent, answers: []string{pin, newPIN, wrongPIN}, code: pam.ErrAuthtok,
			said: []string{old, fresh, again, "E Error 2374"}, after: pin},
		{name: "the card refuses the new one", card: "root", user: "root", fault: []string{"C_SetPIN return 0xA1"}, answers: all, code: pam.ErrAuthtok,
			said: talk(old, fresh, again, "E Error 2378"), sent: 1, after: pin},
		{name: "the card is pulled", card: "root", user: "root", fault: []string{"C_SetPIN CKR_DEVICE_REMOVED"}, answers: all, code: pam.ErrAuthtok,
			said: talk(old, fresh, again, "E Error 2368"), sent: 1, after: pin},
		{name: "the library crashes after the prompts", card: "root", user: "root", fault: []string{"C_SetPIN crash"}, answers: all, code: pam.ErrAuthtok,
			said: talk(old, fresh, again, "E Error 2398"), after: pin},
		{name: "the card fails while it changes the PIN", card: "root", user: "root", fault: []string{"C_SetPIN CKR_DEVICE_ERROR"}, answers: all,
			code: pam.ErrAuthtok, said: talk(old, fresh, again, "E Error 2398"), sent: 1, after: pin},
		{name: "a session that may write is refused", card: "root", user: "root", fault: []string{"C_SetPIN return 0xB5"}, answers: all, code: pam.ErrAuthtok,
			said: talk(old, fresh, again, "E Error 2372"), sent: 1, after: pin},

		{name: "somebody else's card: no opinion", card: "bob", user: "root", code: pam.ErrPermDenied},
		{name: "an expired certificate: no opinion", card: "expired", user: "root", code: pam.ErrPermDenied},
		{name: "no card: no opinion", user: "root", code: pam.ErrPermDenied},
		{name: "root for alice: no opinion", card: "alice", user: "alice", code: pam.ErrPermDenied},
		{name: "only what has expired: no opinion", card: "root", user: "root", flags: pam.ChangeExpiredAuthtok, code: pam.ErrPermDenied},
	}
}

// TestChanges plays each change through the real libpam, and then logs in with the PIN that must be right now.
func TestChanges(t *testing.T) {
	w := *theWorld(t)
	for _, c := range changes() {
		t.Run(c.name, func(t *testing.T) { playChange(t, &w, c) })
	}
}

func playChange(t *testing.T, w *world, c change) {
	table := w.lay(t, ending{card: c.card, user: c.user, global: c.global, fault: c.fault, mapper: "root_map"}, 0)
	service := filepath.Join(table.services, table.service)
	mustWrite(t, service, strings.Replace(string(mustRead(t, service)), "auth ", "password ", 1)+string(mustRead(t, service)), 0o644)
	h := &heard{answers: c.answers}
	tx, err := pam.StartConfDir(table.service, c.user, h, table.services)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.End() }()
	if code := codeOf(tx.ChangeAuthTok(c.flags)); code != c.code {
		t.Errorf("ended with %v (%d), want %v (%d)", code, code, c.code, c.code)
	}
	if err := sameTalk(h.lines, c.said); err != nil {
		t.Errorf("%v\nheard:\n  %s", err, strings.Join(h.lines, "\n  "))
	}
	if sent, err := table.fault.Count("C_SetPIN"); err != nil || sent != c.sent {
		t.Errorf("C_SetPIN was called %d times (%v), want %d", sent, err, c.sent)
	}
	if logins := table.logins(t); logins != 0 {
		t.Errorf("%d PINs were sent by C_Login: each costs a try", logins)
	}
	if c.after == "" {
		return
	}
	if err := w.fault.Set(); err != nil {
		t.Fatal(err)
	}
	login, err := pam.StartConfDir(table.service, c.user, &heard{answers: []string{c.after}}, table.services)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = login.End() }()
	if code := codeOf(login.Authenticate(0)); code != success {
		t.Errorf("the PIN that must be right afterwards: %v", code)
	}
}
