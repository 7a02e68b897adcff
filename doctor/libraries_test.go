package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pkcs11/pkcs11test"
)

// TestLibraryFiles: missing, of another kind, without PKCS#11's function, not root's alone; and a good one.

func TestLibraryFiles(t *testing.T) {
	tr := newTree(t)
	tr.put("/text.so", "no library\n")
	tr.put("/open.so", "")
	tr.chmod("/open.so", 0o666)
	source := tr.put("/other.c", "int other;\n")
	if said, err := exec.Command("cc", "-shared", "-fPIC", "-o", filepath.Join(tr.dir, "other.so"), source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	tr.chmod("/other.so", 0o755)
	library, err := pkcs11test.Library()
	if err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		path string
		want want
	}{
		{"DIR/missing.so", want{"library-missing", diagnosis.Refusal, "is not there", "apt install opensc-pkcs11"}},
		{"DIR/text.so", want{"library-wrong-kind", diagnosis.Refusal, "is no shared library", "architecture"}},
		{"DIR/open.so", want{"library-owner", diagnosis.Refusal, "may be written by everybody", "chmod go-w"}},
		{"DIR/other.so", want{"library-not-pkcs11", diagnosis.Refusal, "no C_GetFunctionList", "set module"}},
		{library, want{"library", diagnosis.OK, "only root", ""}},
	} {
		tr.module("module = "+tt.path+";", "pwent", "")
		tt.want.in(t, run(t, tr.live(), "pkcs11-library"))
	}
}

// TestLibrariesThatFail: what a library does when it is loaded is a finding, and not the end.

// TestALibraryThatHangs is killed when the time of its check is over.

// TestOpenSCLeavesCardsUnlocked: which releases do.

func TestOpenSCLeavesCardsUnlocked(t *testing.T) {
	for _, tt := range []struct {
		maker        string
		major, minor byte
		leaves       bool
	}{{"OpenSC Project", 0, 23, true}, {"OpenSC Project", 0, 24, false}, {"OpenSC Project", 1, 0, false}, {"SoftHSM", 0, 1, false}} {
		if got := leavesUnlocked(tt.maker, tt.major, tt.minor); got != tt.leaves {
			t.Errorf("%+v", tt)
		}
	}
}

// TestPCSCLite: a library that loads libpcsclite, on a machine without it and with it.

func TestPCSCLite(t *testing.T) {
	tr := newTree(t)
	library := tr.put("/opensc-pkcs11.so", "... libpcsclite.so.1 ...")
	tr.module("module = "+library+";", "pwent", "")
	want{"libpcsclite-missing", diagnosis.Refusal, "no reader is found", "apt install libpcsclite1"}.in(t, run(t, tr.machine(), "libpcsclite"))

	tr.put("/etc/ld.so.conf.d/x86_64-linux-gnu.conf", "# Multiarch support\n/usr/lib/x86_64-linux-gnu\n")
	tr.put("/usr/lib/x86_64-linux-gnu/libpcsclite.so.1", "")
	want{"libpcsclite", diagnosis.OK, "is there", ""}.in(t, run(t, tr.machine(), "libpcsclite"))
}

// softCard is a configuration with a card of SoftHSM in it; ca_dir has its authority.

// TestSoftCards: a card that would be used, one that the configuration leaves out, a blank one, one without a certificate

// and one without a PIN.

// pivCard is the built-in card's configuration with a simulated card.

func pivCard(t *testing.T, o simcard.Options) *tree {
	t.Helper()
	needRoot(t)
	card, err := simcard.New(o)
	if err != nil {
		t.Fatal(err)
	}
	root := testca.NewRoot("Root")
	leaf := root.Leaf("alice")
	if err := card.SetKey(simcard.KeyAuthentication, leaf.Key.Private, leaf.DER); err != nil {
		t.Fatal(err)
	}
	tr := newTree(t)
	r := tr.daemon(card)
	await(t, r, pcsc.StatePresent)
	tr.put("/ca/root.pem", string(root.PEM()))
	tr.module("module = builtin; piv_cache = no; card_access = system; pcsc_socket = DIR"+pcsc.DefaultSocket+
		"; ca_dir = DIR/ca; cert_policy = ca, signature;", "pwent", "")
	if o.Tries > 0 {
		wrongPINs(t, card, o.Tries)
	}
	return tr
}

// wrongPINs presents wrong PINs until one try is left; of one try none.

func wrongPINs(t *testing.T, card *simcard.Card, tries int) {
	t.Helper()
	verify := []byte{0x00, 0x20, 0x00, 0x80, 0x08, '9', '9', '9', '9', '9', '9', 0xFF, 0xFF}
	commands := [][]byte{{0x00, 0xA4, 0x04, 0x00, 0x05, 0xA0, 0x00, 0x00, 0x03, 0x08}}
	for range tries - 1 {
		commands = append(commands, verify)
	}
	for _, c := range commands {
		if _, err := card.Transmit(c); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPIVCards: the built-in card, the last try, a locked PIN, and the maker's; no try is spent.

func TestPIVCards(t *testing.T) {
	tr := pivCard(t, simcard.Options{PIN: "123456"})
	want{"card", diagnosis.OK, "card ", ""}.in(t, run(t, tr.live(), "cards"))
	want{"pin", diagnosis.OK, "3 tries are left", ""}.in(t, run(t, tr.live(), "card-pin"))
	want{"pin", diagnosis.OK, "3 tries are left", ""}.in(t, run(t, tr.live(), "card-pin"))
	want{"certificate", diagnosis.OK, "is good until", ""}.in(t, run(t, tr.live(), "card-certificates"))

	tr = pivCard(t, simcard.Options{PIN: "123456", Tries: 2})
	want{"pin-last-try", diagnosis.Warning, "one try is left", "right PIN"}.in(t, run(t, tr.live(), "card-pin"))

	yubikey, err := models.Find("yubikey-5")
	if err != nil {
		t.Fatal(err)
	}
	yubikey.PIN = "123456"
	tr = pivCard(t, yubikey)
	want{"pin-default", diagnosis.Warning, "everybody knows", "pam-pkcs11 pin change"}.in(t, run(t, tr.live(), "card-pin"))
}

// TestCardsOfOtherKinds: a card that the built-in card does not know.

func TestCardsOfOtherKinds(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	r := tr.daemon(noApplet{})
	await(t, r, pcsc.StatePresent)
	tr.module("module = builtin; piv_cache = no; card_access = system; pcsc_socket = DIR"+pcsc.DefaultSocket+"; cert_policy = none;", "pwent", "")
	want{"card-no-driver", diagnosis.Warning, "does not know", "pam-pkcs11 atr"}.in(t, run(t, tr.live(), "cards"))
	want{"card-none", diagnosis.Note, "no card now", ""}.in(t, run(t, tr.live(), "card-pin"))
}

// noApplet is a card that has nothing.

type noApplet struct{}

func (noApplet) ATR() []byte { return simcard.ATRBoth }

func (noApplet) Reset() {}

func (noApplet) Transmit([]byte) ([]byte, error) { return []byte{0x6A, 0x82}, nil }

// TestLockedPIN: how it is unblocked.

func TestLockedPIN(t *testing.T) {
	needRoot(t)
	card, err := simcard.New(simcard.Options{PIN: "123456", Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	tr := newTree(t)
	r := tr.daemon(card)
	await(t, r, pcsc.StatePresent)
	leaf := testca.NewRoot("Root").Leaf("alice")
	if err := card.SetKey(simcard.KeyAuthentication, leaf.Key.Private, leaf.DER); err != nil {
		t.Fatal(err)
	}
	wrongPINs(t, card, 2)
	tr.module("module = builtin; piv_cache = no; card_access = system; pcsc_socket = DIR"+pcsc.DefaultSocket+"; cert_policy = none;", "pwent", "")
	want{"pin-locked", diagnosis.Refusal, "locked after too many wrong tries", "pam-pkcs11 pin unblock"}.in(t, run(t, tr.live(), "card-pin"))
}

// TestCardsOfADaemonThatIsMissing are left to the check of the daemon.

func TestCardsOfADaemonThatIsMissing(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	tr.module("module = builtin; card_access = system; pcsc_socket = DIR/none;", "pwent", "")
	want{"not-looked-at", diagnosis.Note, "no daemon for card readers", ""}.in(t, run(t, tr.live(), "cards"))
	if err := os.Remove(filepath.Join(tr.dir, "etc/pam_pkcs11/pam_pkcs11.conf")); err != nil {
		t.Fatal(err)
	}
	want{"not-looked-at", diagnosis.Note, "configuration", ""}.in(t, run(t, tr.live(), "cards"))
}
