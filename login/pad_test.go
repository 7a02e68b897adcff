package login

import (
	"slices"
	"testing"

	"pam_pkcs11/login/logintest"
)

// TestBothEntriesAtAPadAreAnnounced: a key with CKA_ALWAYS_AUTHENTICATE wants the PIN twice. Each entry is told
// and has the keypad's time; without the second announcement the host ended a worker that was silent for
// thirty seconds.
func TestBothEntriesAtAPadAreAnnounced(t *testing.T) {
	d := newTable(t, logintest.Object{PINAgain: true})
	who := &person{}
	p := d.play(t, Request{User: "alice", Silent: true}, who, false, "", atReader(rightPIN, rightPIN))
	want := []string{
		"T Type your PIN on the keypad of the reader", "W 2m0s", "C C_Login", "W 0s",
		"T Type your PIN on the keypad of the reader once more, for the signature", "W 2m0s", "C C_Login", "W 0s",
	}
	if outcomeOf(p.err) != "granted" || !slices.Equal(p.events, want) {
		t.Errorf("%v after\n%q, want\n%q", p.err, p.events, want)
	}
}
