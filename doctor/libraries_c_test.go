//go:build cgo

package doctor

import (
	"testing"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11/pkcs11test"
)

func TestLibrariesThatFail(t *testing.T) {
	tr := newTree(t)
	fault, err := pkcs11test.BuildFault(tr.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	tr.module("module = "+fault.Library+"; environment = \""+fault.Environment()[0]+"\";", "pwent", "")
	for script, w := range map[string]want{
		"fault C_Initialize 0 crash":    {"library-crashes", diagnosis.Refusal, "SIGSEGV", "update"},
		"fault C_Initialize 0 exit 7":   {"library-ends", diagnosis.Refusal, "status 7", "update"},
		"fault C_Initialize 0 return 5": {"library-fails", diagnosis.Refusal, "CKR_GENERAL_ERROR", "update"},
		"":                              {"library-loads", diagnosis.OK, "1 slots", ""},
	} {
		if err := fault.Set(script); err != nil {
			t.Fatal(err)
		}
		w.in(t, run(t, tr.live(), "pkcs11-load"))
	}
}

func TestALibraryThatHangs(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the time of a check")
	}
	t.Parallel()
	tr := newTree(t)
	fault, err := pkcs11test.BuildFault(tr.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := fault.Set("fault C_Initialize 0 hang"); err != nil {
		t.Fatal(err)
	}
	tr.module("module = "+fault.Library+"; environment = \""+fault.Environment()[0]+"\";", "pwent", "")
	found := run(t, tr.live(), "pkcs11-load")
	if len(found) == 1 && found[0].ID == idHangs { // a busy machine: the child was killed, and its end not heard of in graceTime
		return
	}
	want{"library-hangs", diagnosis.Refusal, "does not answer in time", "update"}.in(t, found)
}

func softCard(t *testing.T, card pkcs11test.Token, more string, root *testca.CA) *tree {
	t.Helper()
	tr := newTree(t)
	s, err := pkcs11test.NewStore(tr.dir)
	if err != nil {
		t.Fatal(err)
	}
	if card.Label != "" {
		if err := s.Add(card); err != nil {
			t.Fatal(err)
		}
	}
	tr.put("/ca/root.pem", string(root.PEM()))
	tr.module("module = "+s.Library+"; environment = \""+s.Environment()[0]+"\"; ca_dir = DIR/ca; cert_policy = ca, signature; "+more, "pwent", "")
	return tr
}

func TestSoftCards(t *testing.T) {
	root := testca.NewRoot("Root")
	leaf := root.Leaf("alice")
	alice := pkcs11test.Token{Label: "alice", PIN: "123456", Objects: []pkcs11test.Object{
		{Label: "alice", ID: []byte{1}, Cert: leaf.DER, Key: leaf.Key.Private},
	}}
	empty := pkcs11test.Token{Label: "empty", PIN: "123456"}
	for _, tt := range []struct {
		name, check, more string
		card              pkcs11test.Token
		root              *testca.CA
		want              want
	}{
		{"good", "cards", "", alice, root, want{"card", diagnosis.OK, `card "alice"`, ""}},
		{"its PIN", "card-pin", "", alice, root, want{"pin", diagnosis.OK, "no PIN that is nearly locked", ""}},
		{"its certificate", "card-certificates", "", alice, root, want{"certificate", diagnosis.OK, "is good until", ""}},
		{"left out", "cards", "token_label = bob;", alice, root, want{"card-excluded", diagnosis.Warning, `its token is "alice", not "bob"`, "token_label"}},
		{"blank", "cards", "", pkcs11test.Token{}, root, want{"card-blank", diagnosis.Note, "not initialised", ""}},
		{"no certificate", "card-certificates", "", empty, root, want{"certificates-hidden", diagnosis.Warning, "no certificate without its PIN", "certificates_after_pin"}},
		{"unknown issuer", "card-certificates", "", alice, testca.NewRoot("Other"), want{"certificate-issuer-unknown", diagnosis.Refusal, "is refused", "ca_dir"}},
		{"no PIN", "card-pin", "", pkcs11test.Token{Label: "fresh"}, root, want{"pin-not-set", diagnosis.Refusal, "no PIN has been set", "set one"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := softCard(t, tt.card, tt.more, tt.root)
			tt.want.in(t, run(t, tr.live(), tt.check))
		})
	}
}
