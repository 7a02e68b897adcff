//go:build linux && cgo

package setup

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
)

// waitUntilUndone waits until all is as it was before.
func waitUntilUndone(t *testing.T, before string) {
	t.Helper()
	if !slowtest.Poll(patience, time.Second, func() bool { return tree(t) == before }) {
		unchanged(t, before)
		t.Fatal("it is not taken back")
	}
}

// TestNotConfirmed: at a terminal a setup after which nobody gets in without a card waits for a confirmation. The terminal
// is closed, and all is taken back all the same.
func TestNotConfirmed(t *testing.T) {
	before := tree(t)
	withCard(t, testca.SelfSigned("alice"))
	p := onTerminal(t, 0, stage.tool, "setup", "--user", "alice", "--revert-after", "15s", "--no-test")
	p.Expect("Make these changes?")
	p.Enter("yes")
	p.Expect("It is taken back by itself at ")
	p.Expect("pam-pkcs11 setup --keep")
	if code := p.Wait(); code != 0 {
		t.Fatalf("setup ended with %d:\n%s", code, p.Text())
	}

	if tree(t) == before {
		t.Error("it was taken back at once")
	}
	again := runTool(t, "", "setup", "--user", "alice", "--yes")
	if again.code != 1 || !strings.Contains(again.err, "waits for a confirmation") {
		t.Errorf("another setup meanwhile: %d\n%s%s", again.code, again.out, again.err)
	}
	if r := runTool(t, "", "doctor", "setups"); r.code != 1 || !strings.Contains(r.out, "nobody has confirmed it yet") {
		t.Errorf("doctor: %d\n%s%s", r.code, r.out, r.err)
	}
	if r := runTool(t, "", "undo", "--list"); !strings.Contains(r.out, "if it is not confirmed") {
		t.Errorf("undo --list: %d\n%s%s", r.code, r.out, r.err)
	}
	waitUntilUndone(t, before)
	if late := runTool(t, "", "setup", "--keep"); late.code != 1 || !strings.Contains(late.out, "has been taken back") {
		t.Errorf("too late: %d\n%s%s", late.code, late.out, late.err)
	}
}

// TestConfirmed: what is confirmed in time stays, and what is taken back by hand is taken back once.
func TestConfirmed(t *testing.T) {
	before := tree(t)
	withCard(t, testca.SelfSigned("alice"))
	const after = 12 * time.Second
	args := []string{"setup", "--user", "alice", "--yes", "--json", "--no-test", "--revert-after", after.String()}
	if r := runTool(t, "", args...); r.code != 0 {
		t.Fatalf("%d\n%s%s", r.code, r.out, r.err)
	}
	begun := time.Now()
	kept := runTool(t, "", "setup", "--keep", "--json")
	var answer struct {
		Kept   bool
		Number int
	}
	if err := json.Unmarshal([]byte(kept.out), &answer); err != nil || kept.code != 0 || !answer.Kept || answer.Number == 0 {
		t.Fatalf("%v: %d\n%s%s", err, kept.code, kept.out, kept.err)
	}
	// Another process takes back: that it does nothing shows only when its time is over.
	time.Sleep(time.Until(begun.Add(after + 5*time.Second)))
	if tree(t) == before {
		t.Fatal("it was taken back, although it was confirmed")
	}
	sudoAsksPIN(t)
	takeBack(t, before)
}
