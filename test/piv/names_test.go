package piv

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/container"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
	builtin "pam_pkcs11/piv"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/token"
)

// The desktop and the configuration know a card by the names that opensc-pkcs11 gives it, so that
// the built-in card has to give the same: token by token, certificate by certificate.

// bothWays is one reader, and the two ways to the card in it.
type bothWays struct {
	t       *testing.T
	slot    *pcsctest.Slot
	socket  string
	library string
}

func newBothWays(t *testing.T) *bothWays {
	t.Helper()
	libraries, _ := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	if len(libraries) == 0 {
		t.Fatal("the package opensc-pkcs11 is missing")
	}
	w := &bothWays{t: t, slot: pcsctest.NewSlot(true), library: libraries[0]}
	dir, err := os.MkdirTemp("", "piv-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w.socket = filepath.Join(dir, "s")

	manager := resmgr.New(resmgr.Options{})
	driver := pcsctest.NewDriver(pcsctest.Reader{ID: "1", Product: "Virtual PIV Reader", Slots: []*pcsctest.Slot{w.slot}})
	ctx, cancel := context.WithCancel(context.Background())
	plugged := resmgr.Plug(ctx, manager, driver)
	manager.Ready()
	t.Cleanup(func() { manager.Close() })
	t.Cleanup(func() { cancel(); <-plugged })

	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: w.socket}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 20); err != nil {
		t.Fatal(err)
	}
	s := &server.Server{Manager: manager}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, fd) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return w
}

// shown is a card as a login sees it.
type shown struct {
	Slot    string // description
	Info    token.Info
	Objects []object
}

// object is a certificate as a login sees it.
type object struct {
	ID    []byte
	Label string
	DER   []byte
}

// look reads all of the only card of a module, and closes the module.
func (w *bothWays) look(m token.Module) *shown {
	w.t.Helper()
	defer m.Close()
	slots, err := m.Slots(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	usable := token.Selector{}.Select(slots)
	if len(usable) == 0 {
		w.t.Fatalf("no token: %+v", slots)
	}
	slot := usable[0]
	if err := slot.Describe(); err != nil {
		w.t.Fatal(err)
	}

	all := &shown{Slot: slot.Description, Info: *slot.Token}
	session, err := m.Open(w.t.Context(), slot)
	if err != nil {
		w.t.Fatal(err)
	}
	for o, err := range session.Certificates(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		if o.Err != nil {
			continue // each has its own words for it
		}
		all.Objects = append(all.Objects, object{o.ID, o.Label, o.Cert.Raw})
	}
	if err := session.Close(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// throughOpenSC is the card as opensc-pkcs11 shows it.
func (w *bothWays) throughOpenSC() *shown {
	w.t.Helper()
	m, err := pkcs11.Load(w.library, pkcs11.Options{Environment: []string{"PCSCLITE_CSOCK_NAME=" + w.socket}})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.look(m.Cards())
}

// builtIn is the card as package piv shows it, with what the cache knows of it.
func (w *bothWays) builtIn(c *cache.Cache, keys ...builtin.KeyRef) *shown {
	w.t.Helper()
	o := builtin.Options{Keys: keys, Cache: c, Label: builtin.LabelOpenSC023, Serial: true}
	m, err := builtin.New(pcsc.NewClient(w.socket), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.look(m)
}

// rawLabel is the label of the token, byte by byte, as pkcs11-tool prints it.
func (w *bothWays) rawLabel() string {
	w.t.Helper()
	cmd := exec.Command("pkcs11-tool", "--list-token-slots")
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+w.socket)
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatal("pkcs11-tool (package opensc): ", err)
	}
	for line := range bytes.Lines(out) {
		if name, value, ok := bytes.Cut(line, []byte(": ")); ok && string(bytes.TrimSpace(name)) == "token label" {
			return string(bytes.TrimSuffix(value, []byte("\n")))
		}
	}
	w.t.Fatalf("no label in\n%s", out)
	return ""
}

// holder is a card whose certificates have these subjects.
func holder(t *testing.T, o simcard.Options, subjects map[simcard.KeyRef][]string) *simcard.Card {
	t.Helper()
	card, err := simcard.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ca := testca.NewRoot("Example CA")
	for ref, subject := range subjects {
		key := testca.P256()
		leaf := ca.Leaf("", testca.WithKey(key), testca.Subject(subject...))
		if err := card.SetKey(ref, key.Private, leaf.DER); err != nil {
			t.Fatal(err)
		}
	}
	return card
}

// chuid gives a card another CHUID. An empty part is left out.
func chuid(card *simcard.Card, fascn, guid []byte) {
	var content []byte
	if len(fascn) > 0 {
		content = append(append(content, 0x30, byte(len(fascn))), fascn...)
	}
	if len(guid) > 0 {
		content = append(append(content, 0x34, byte(len(guid))), guid...)
	}
	content = append(content, 0x35, 8)
	content = append(content, "20500101"...)
	card.SetObject(simcard.ObjectCHUID, append(content, 0x3E, 0, 0xFE, 0))
}

var (
	ofNoAgency = []byte{
		0xD4, 0xE7, 0x39, 0xDA, 0x73, 0x9C, 0xED, 0x39, 0xCE, 0x73, 0x9D, 0x83, 0x68, 0x58, 0x21, 0x08, 0x42, 0x10, 0x84,
		0x21, 0xC8, 0x42, 0x10, 0xC3, 0xEB,
	}
	ofAgency = []byte{
		0xD1, 0x38, 0x10, 0xD8, 0x28, 0xAC, 0x1B, 0xD2, 0x44, 0xD1, 0x68, 0x5A, 0x21, 0x08, 0x42, 0x10, 0x84,
		0x21, 0xC8, 0x42, 0x10, 0xC3, 0xF3, 0x01, 0x02,
	}
	someGUID = []byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF}
)

// namedCard is a card, and the label that OpenSC 0.23 gives it.
type namedCard struct {
	name     string
	options  simcard.Options
	subjects map[simcard.KeyRef][]string
	change   func(t *testing.T, card *simcard.Card)
	label    string // raw
}

func namedCards() []namedCard {
	type subjects = map[simcard.KeyRef][]string
	const auth, sign, manage, free = simcard.KeyAuthentication, simcard.KeySignature, simcard.KeyManagement, simcard.KeyCardAuth
	thirtyTwo := strings.Repeat("Alice123", 4)
	umlauts := strings.Repeat("Ü", 17)
	withCHUID := func(fascn, guid []byte) func(*testing.T, *simcard.Card) {
		return func(_ *testing.T, card *simcard.Card) { chuid(card, fascn, guid) }
	}
	alice := subjects{auth: {"O=Example", "CN=Alice Example"}}
	return []namedCard{
		{name: "short", subjects: alice, label: "Alice Example"},
		{name: "exactly 32", subjects: subjects{auth: {"CN=" + thirtyTwo}}, label: thirtyTwo},
		{name: "33", subjects: subjects{auth: {"CN=" + thirtyTwo + "x"}}, label: thirtyTwo[:29] + "..."},
		{name: "a character is cut", subjects: subjects{auth: {"CN=" + umlauts}}, label: umlauts[:29] + "..."},
		{name: "two names", subjects: subjects{auth: {"CN=Alice", "CN=Bob"}}, label: "Alice"},
		{name: "no name", subjects: subjects{auth: {"O=Example"}}, label: "PIV_II"},
		{name: "no name, but the next has one", subjects: subjects{auth: {"O=Example"}, sign: {"CN=Bob"}}, label: "Bob"},
		{name: "all places", subjects: subjects{auth: {"CN=A"}, sign: {"CN=B"}, manage: {"CN=C"}, free: {"CN=D"}}, label: "A"},
		{name: "no certificate", label: "PIV_II"},
		{name: "a colon", subjects: subjects{auth: {"CN=a:b"}}, label: "a:b"},
		{name: "a blank at the end", subjects: subjects{auth: {"CN=Alice "}}, label: "Alice"},
		{name: "9C only", subjects: subjects{sign: {"CN=Only 9C"}}, label: "Only 9C"},
		{name: "9D only", subjects: subjects{manage: {"CN=Only 9D"}}, label: "Only 9D"},
		{name: "9E only", subjects: subjects{free: {"CN=Only 9E"}}, label: "Only 9E"},
		{name: "82 only", subjects: subjects{0x82: {"CN=Only 82"}}, label: "Only 82"},
		{name: "82 to 88", subjects: subjects{
			0x82: {"CN=82"}, 0x83: {"CN=83"}, 0x84: {"CN=84"}, 0x85: {"CN=85"}, 0x86: {"CN=86"}, 0x87: {"CN=87"}, 0x88: {"CN=88"},
		}, label: "82"},
		{name: "BMPString", change: named(0x1E, "\x00A\x00l"), label: ""},
		{name: "TeletexString", change: named(0x14, "M\xFCller"), label: "M\xFCller"},
		{name: "no UTF-8", change: named(0x0C, "M\xFCller"), label: "M\xFCller"},
		{name: "an empty name", change: named(0x0C, ""), label: ""},
		{name: "NUL in the name", change: named(0x0C, "Ali\x00ce"), label: "Ali"},
		{name: "escape in the name", change: named(0x0C, "Ali\x1B[31mce"), label: "Ali\x1B[31mce"},
		{name: "9A cannot be read", subjects: subjects{sign: {"CN=Only 9C"}}, change: garbage, label: "Only 9C"},
		{name: "9A was emptied", options: simcard.Options{Absent: &simcard.AbsentCertificate}, subjects: subjects{sign: {"CN=Only 9C"}},
			label: "Only 9C"},
		{name: "gzip", subjects: alice, change: packed, label: "Alice Example"},
		{name: "global PIN", options: simcard.Options{GlobalPIN: "666666"}, subjects: alice, label: "Alice Example (Global PIN)"},
		{name: "global PIN, as much as fits", options: simcard.Options{GlobalPIN: "666666"},
			subjects: subjects{auth: {"CN=" + thirtyTwo[:19]}}, label: thirtyTwo[:19] + " (Global PIN)"},
		{name: "global PIN, one more", options: simcard.Options{GlobalPIN: "666666"},
			subjects: subjects{auth: {"CN=" + thirtyTwo[:20]}}, label: thirtyTwo[:16] + "... (Global PIN)"},
		{name: "global PIN, no name", options: simcard.Options{GlobalPIN: "666666"}, label: "PIV_II (Global PIN)"},
		{name: "global PIN, not preferred", options: simcard.Options{GlobalPIN: "666666", Usage: &simcard.UsageBoth}, subjects: alice,
			label: "Alice Example"},
		{name: "GUID of zeros", subjects: alice, change: withCHUID(ofNoAgency, make([]byte, 16)), label: "Alice Example"},
		{name: "some GUID", subjects: alice, change: withCHUID(ofNoAgency, someGUID), label: "Alice Example"},
		{name: "FASC-N of an agency", subjects: alice, change: withCHUID(ofAgency, someGUID), label: "Alice Example"},
		{name: "FASC-N only", subjects: alice, change: withCHUID(ofAgency, nil), label: "Alice Example"},
		{name: "GUID only", subjects: alice, change: withCHUID(nil, someGUID), label: "Alice Example"},
		{name: "no number", subjects: alice, change: withCHUID(nil, nil), label: "Alice Example"},
		{name: "no CHUID", options: simcard.Options{Factory: true}, subjects: alice, label: "Alice Example"},
		{name: "YubiKey 5", options: simcard.Options{
			ATR: models.ATRYubiKey5, Select: simcard.SelectRules{AbsentDeselects: true, Template: simcard.APTBare},
			Yubico: &simcard.Yubico{Metadata: simcard.MetadataFull}, PINs: simcard.PINRules{AnyBytes: true},
		}, subjects: alice, label: "Alice Example"},
		{name: "SP 800-73-1", options: simcard.Options{NoDiscovery: true, PINs: simcard.PINRules{AtZero: true}}, subjects: alice,
			label: "Alice Example"},
		{name: "no discovery", options: simcard.Options{NoDiscovery: true}, subjects: alice, label: "Alice Example"},
	}
}

// named has the certificate of 9A with a common name of this string type and these octets.
func named(tag byte, octets string) func(*testing.T, *simcard.Card) {
	return func(t *testing.T, card *simcard.Card) {
		t.Helper()
		key := testca.P256()
		subject := testca.Name(testca.RDN(testca.Attribute("CN", tag, []byte(octets))))
		leaf := testca.NewRoot("Example CA").Leaf("", testca.WithKey(key), testca.RawSubject(subject))
		if err := card.SetKey(simcard.KeyAuthentication, key.Private, leaf.DER); err != nil {
			t.Fatal(err)
		}
	}
}

// garbage has no certificate at the place of that of 9A.
func garbage(_ *testing.T, card *simcard.Card) {
	card.SetObject(simcard.ObjectAuthentication, []byte{0x70, 3, 0x30, 0x01, 0x00, 0x71, 1, 0, 0xFE, 0})
}

// packed has the certificate of 9A compressed.
func packed(t *testing.T, card *simcard.Card) {
	t.Helper()
	leaf := testca.NewRoot("Example CA").Leaf("", testca.WithKey(testca.P256()), testca.Subject("O=Example", "CN=Alice Example"))
	if err := card.SetCertificate(simcard.KeyAuthentication, leaf.DER, container.Form{Compression: container.Gzip}); err != nil {
		t.Fatal(err)
	}
}

// TestNamesAreOpenSCs: what a card is called in the two ways to it.
func TestNamesAreOpenSCs(t *testing.T) {
	w := newBothWays(t)
	keys := []builtin.KeyRef{builtin.KeyAuthentication, builtin.KeySignature, builtin.KeyManagement}
	for ref := builtin.KeyRetired1; ref <= builtin.KeyRetired20; ref++ {
		keys = append(keys, ref)
	}
	for _, tt := range namedCards() {
		t.Run(tt.name, func(t *testing.T) {
			card := holder(t, tt.options, tt.subjects)
			if tt.change != nil {
				tt.change(t, card)
			}
			way := *w
			way.t = t
			way.slot.Insert(card)
			defer way.slot.Remove()

			if raw := way.rawLabel(); raw != tt.label {
				t.Errorf("pkcs11-tool shows %q, want %q", raw, tt.label)
			}
			theirs := way.throughOpenSC()
			theirs.Objects = without9E(theirs.Objects)
			known, err := cache.Open(filepath.Join(t.TempDir(), "piv"), cache.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer known.Close()
			for _, when := range []string{"at first sight", "when it is known"} {
				ours := way.builtIn(known, keys...)
				// This is more than PKCS#11 can tell.
				ours.Info.PIN.Tries, ours.Info.PIN.Default = token.Tries{}, false
				if diff := cmp.Diff(theirs, ours); diff != "" {
					t.Errorf("opensc-pkcs11 (-) and the built-in card %s (+):\n%s", when, diff)
				}
			}
		})
	}
}

// TestLevelsAreOpenSCs: how near the PIN is to be locked is told by flags there, and by the number of
// tries here. Neither knows of a card that it has not seen before whether two tries are all.
func TestLevelsAreOpenSCs(t *testing.T) {
	w := newBothWays(t)
	for wrong, want := range []token.Level{token.Untold, token.Untold, token.Last, token.Locked} {
		card := holder(t, simcard.Options{}, map[simcard.KeyRef][]string{simcard.KeyAuthentication: {"CN=Alice"}})
		spend(t, card, wrong)
		w.slot.Insert(card)
		theirs, ours := w.throughOpenSC().Info.PIN.Tries, w.builtIn(nil).Info.PIN.Tries
		if theirs.Level != want || ours.Level != want {
			t.Errorf("%d wrong PINs: %d there, %d here, want %d", wrong, theirs.Level, ours.Level, want)
		}
		if left, _ := card.Tries(); ours.Counted && ours.Left != left {
			t.Errorf("%d wrong PINs: %d tries are left, not %d", wrong, left, ours.Left)
		}
		w.slot.Remove()
	}
}

// spend presents wrong PINs to a card.
func spend(t *testing.T, card *simcard.Card, wrong int) {
	t.Helper()
	commands := []string{"\x00\xA4\x04\x00\x09\xA0\x00\x00\x03\x08\x00\x00\x10\x00\x00"}
	for range wrong {
		commands = append(commands, "\x00\x20\x00\x80\x08654321\xFF\xFF")
	}
	for _, command := range commands {
		if _, err := card.Transmit([]byte(command)); err != nil {
			t.Fatal(err)
		}
	}
	card.Reset()
}

// without9E leaves out the certificate that a login never uses.
func without9E(objects []object) []object {
	var rest []object
	for _, o := range objects {
		if !bytes.Equal(o.ID, []byte{0x04}) {
			rest = append(rest, o)
		}
	}
	return rest
}
