//go:build cgo

package cards_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/login"
	"pam_pkcs11/login/cards"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
	"pam_pkcs11/pkcs11/pkcs11test"
)

const (
	pivPIN  = "123456"
	softPIN = "271828"

	// patience is how long something may take on a busy machine before a test gives up on it.
	patience = 2 * time.Minute
)

// other is a card of another kind: it has no application that anybody selects.
type other struct{}

func (other) ATR() []byte                             { return simcard.ATRBoth }
func (other) Reset()                                  {}
func (other) Transmit(command []byte) ([]byte, error) { return []byte{0x6A, 0x82}, nil }

// machine has a daemon with one reader, and SoftHSM; its file is of the blocks builtin and soft.
type machine struct {
	t      *testing.T
	dir    string
	socket string
	ca     *testca.CA
	slot   *pcsctest.Slot
	soft   *pkcs11test.Store
	log    *bytes.Buffer
	calls  []string
	said   []string

	inserts func() // done when alice is asked for a card
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	soft, err := pkcs11test.NewStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: t.TempDir(), ca: testca.NewRoot("Example CA"), slot: pcsctest.NewSlot(true), soft: soft}
	m.socket = filepath.Join(m.dir, "comm")

	manager := resmgr.New(resmgr.Options{})
	driver := pcsctest.NewDriver(pcsctest.Reader{ID: "1", Product: "Test Reader", Slots: []*pcsctest.Slot{m.slot}})
	ctx, cancel := context.WithCancel(context.Background())
	plugged := resmgr.Plug(ctx, manager, driver)
	manager.Ready()
	served := m.serve(ctx, manager)
	t.Cleanup(func() {
		cancel()
		<-plugged
		if err := <-served; err != nil {
			t.Error(err)
		}
		manager.Close()
	})
	return m
}

// serve is the daemon at the machine's socket.
func (m *machine) serve(ctx context.Context, manager *resmgr.Manager) <-chan error {
	m.t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err := errors.Join(err, unix.Bind(fd, &unix.SockaddrUnix{Name: m.socket}), unix.Listen(fd, 100)); err != nil {
		m.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- (&server.Server{Manager: manager}).Serve(ctx, fd); unix.Close(fd) }()
	return served
}

// insert puts a card into the reader, and waits until the daemon knows.
func (m *machine) insert(c pcsctest.Card) {
	m.t.Helper()
	m.slot.Insert(c)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pc, err := pcsc.NewContext(pcsc.NewClient(m.socket))
	if err != nil {
		m.t.Fatal(err)
	}
	defer pc.Release()
	states := []pcsc.ReaderState{{Reader: "Test Reader 00 00"}}
	for states[0].EventState&pcsc.StatePresent == 0 {
		states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
		if err := pc.GetStatusChangeContext(ctx, states, -1); err != nil {
			m.t.Fatal(err)
		}
	}
}

// pivCard makes a PIV card of somebody's.
func (m *machine) pivCard(cert *testca.Cert) *simcard.Card {
	m.t.Helper()
	card, err := simcard.New(simcard.Options{PIN: pivPIN})
	if err == nil {
		err = card.SetKey(simcard.KeyAuthentication, cert.Key.Private, cert.DER)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return card
}

// softToken makes a token of somebody's in SoftHSM.
func (m *machine) softToken(name string) {
	m.t.Helper()
	leaf := m.ca.Leaf(name)
	err := m.soft.Add(pkcs11test.Token{Label: "soft token", PIN: softPIN, Objects: []pkcs11test.Object{
		{ID: []byte{1}, Label: "key", Cert: leaf.DER, Key: leaf.Key.Private},
	}})
	if err != nil {
		m.t.Fatal(err)
	}
}

// logIn logs alice in, who has a file with the blocks and answers each question with the next PIN.
func (m *machine) logIn(use, global string, pins ...string) error {
	m.t.Helper()
	ca := filepath.Join(m.dir, "ca.pem")
	file := filepath.Join(m.dir, "pam_pkcs11.conf")
	text := fmt.Sprintf(`pam_pkcs11 {
	use_mappers = cn;
	allow_unknown_user = true;
	use_pkcs11_module = %s;
	%s
	pkcs11_module builtin { ca_dir = %[3]s; pcsc_socket = %[4]s; card_access = system; piv_cache = no; token_type = "PIV card"; }
	pkcs11_module soft { ca_dir = %[3]s; module = %[5]s; environment = "%[6]s"; token_type = "soft token"; }
	pkcs11_module opensc { ca_dir = %[3]s; module = %[7]s; pcsc_socket = %[4]s; card_access = system; }
	pkcs11_module missing { ca_dir = %[3]s; module = /nonexistent/library.so; }
}
`, use, global, ca, m.socket, m.soft.Library, m.soft.Environment()[0], openSC())
	for name, content := range map[string][]byte{ca: m.ca.PEM(), file: []byte(text)} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}

	m.log, m.calls, m.said = new(bytes.Buffer), nil, nil
	var mu sync.Mutex
	authenticator := &login.Authenticator{
		Cards:           cards.System{},
		Accounts:        nobody{},
		SessionIsRemote: func(context.Context, int) (bool, error) { return false, nil },
		Logger:          slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Trace: func(call string) {
			mu.Lock()
			defer mu.Unlock()
			m.calls = append(m.calls, call)
		},
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	_, err := authenticator.Authenticate(ctx, login.Request{Service: "test", User: "alice", Args: []string{"config_file=" + file}},
		&alice{machine: m, pins: pins})
	return err
}

// nobody is a user database without users.
type nobody struct{}

func (nobody) Lookup(string) (*accounts.Account, error) { return nil, accounts.ErrNoAccount }
func (nobody) All(func(accounts.Account) bool) error    { return nil }
func (nobody) UIDMin() uint32                           { return 1000 }

// alice answers.
type alice struct {
	*machine
	pins []string
}

func (a *alice) Prompt(_ context.Context, text string) (*secret.PIN, error) {
	a.said = append(a.said, text)
	if len(a.pins) == 0 {
		return nil, login.ErrConversation
	}
	pin := a.pins[0]
	a.pins = a.pins[1:]
	return secret.New([]byte(pin))
}

func (a *alice) Ask(context.Context, string) (string, error) { return "", login.ErrConversation }
func (a *alice) TakeOver(context.Context, login.Item) (*secret.PIN, error) {
	return nil, nil
}
func (a *alice) Info(_ context.Context, text string) error {
	a.said = append(a.said, text)
	if strings.HasPrefix(text, "Please insert") && a.inserts != nil {
		a.inserts()
	}
	return nil
}
func (a *alice) Error(_ context.Context, text string) error {
	a.said = append(a.said, text)
	return nil
}
func (a *alice) Wait(context.Context, time.Duration) error { return nil }

// loaded reports whether the library was loaded.
func (m *machine) loaded() bool { return slices.Contains(m.calls, "C_Initialize") }

func (m *machine) asked(prompt string) bool {
	return slices.ContainsFunc(m.said, func(s string) bool { return strings.HasPrefix(s, prompt) })
}

// ends holds how a login ended.
func (m *machine) ends(err error, want login.Outcome) {
	m.t.Helper()
	outcome := login.Success
	var r *login.Refusal
	switch {
	case errors.As(err, &r):
		outcome = r.Outcome
	case err != nil:
		m.t.Fatal(err)
	}
	if outcome != want {
		m.t.Errorf("%v, want %v: %v\nsaid %q\ncalls %q\n%s", outcome, want, err, m.said, m.calls, m.log)
	}
	for _, pin := range []string{pivPIN, softPIN} {
		if strings.Contains(m.log.String(), pin) {
			m.t.Errorf("a PIN is in the log:\n%s", m.log)
		}
	}
}

func TestLogInByBlocks(t *testing.T) {
	m := newMachine(t)
	m.softToken("alice")

	t.Run("no card: the token that is in no reader", func(t *testing.T) {
		m.t = t
		m.ends(m.logIn("builtin, soft", "", softPIN), login.Success)
		if !m.asked("soft token PIN") {
			t.Errorf("said %q", m.said)
		}
	})
	t.Run("no card, and a library that is missing", func(t *testing.T) {
		m.t = t
		m.ends(m.logIn("builtin, missing", ""), login.NoCard)
		if !strings.Contains(m.log.String(), "block left out") {
			t.Errorf("the log does not tell of the library:\n%s", m.log)
		}
	})

	card := m.pivCard(m.ca.Leaf("alice"))
	m.insert(card)
	t.Run("a PIV card: no library is loaded", func(t *testing.T) {
		m.t = t
		m.ends(m.logIn("builtin, soft", "", pivPIN), login.Success)
		if m.loaded() || !m.asked("PIV card PIN") || card.Verifies() != 1 {
			t.Errorf("loaded %v, said %q, %d PINs", m.loaded(), m.said, card.Verifies())
		}
		m.ends(m.logIn("builtin, missing", "", pivPIN), login.Success)
	})
	t.Run("a wrong PIN ends there", func(t *testing.T) {
		m.t = t
		before := card.Verifies()
		m.ends(m.logIn("builtin, soft", "", softPIN, softPIN), login.PINIncorrect)
		if m.loaded() || card.Verifies() != before+1 {
			t.Errorf("loaded %v, %d PINs more", m.loaded(), card.Verifies()-before)
		}
		m.ends(m.logIn("builtin", "", pivPIN), login.Success) // and the tries are what they were
	})
	t.Run("the library first", func(t *testing.T) {
		m.t = t
		before := card.Verifies()
		m.ends(m.logIn("soft, builtin", "", softPIN), login.Success)
		if card.Verifies() != before || !m.asked("soft token PIN") {
			t.Errorf("%d PINs at the PIV card, said %q", card.Verifies()-before, m.said)
		}
	})

	m.slot.Remove()
	bobs := m.pivCard(m.ca.Leaf("bob"))
	m.insert(bobs)
	t.Run("another user's card ends there", func(t *testing.T) {
		m.t = t
		m.ends(m.logIn("builtin, soft", "", softPIN), login.ForeignCard)
		m.ends(m.logIn("builtin, soft", "foreign_card = skip;", softPIN), login.ForeignCardSkipped)
		if m.loaded() || bobs.Verifies() != 0 {
			t.Errorf("loaded %v, %d PINs", m.loaded(), bobs.Verifies())
		}
	})

	m.slot.Remove()
	m.insert(m.pivCard(m.ca.Leaf("alice", testca.Expired())))
	t.Run("an expired card ends there", func(t *testing.T) {
		m.t = t
		m.ends(m.logIn("builtin, soft", "", softPIN), login.CertificateExpired)
		if m.loaded() {
			t.Error("the library was loaded")
		}
	})

	m.slot.Remove()
	m.insert(other{})
	t.Run("a card of another kind", func(t *testing.T) {
		m.t = t
		m.ends(m.logIn("builtin, soft", "", softPIN), login.Success)
		if !m.loaded() {
			t.Error("the library was not loaded")
		}
		m.ends(m.logIn("builtin", ""), login.NoCard)
	})
}

// TestNoDaemon: without a daemon there is no card, and the words are those of that.
func TestNoDaemon(t *testing.T) {
	m := newMachine(t)
	m.socket = filepath.Join(m.dir, "none")
	m.ends(m.logIn("builtin, soft", "card_only = true;"), login.NoCard)
	if !m.asked("Error 2386") || m.loaded() {
		t.Errorf("said %q, loaded %v", m.said, m.loaded())
	}
}

// TestNoReaderOfBuiltin: the daemon that answered has no reader.
func TestNoReaderOfBuiltin(t *testing.T) {
	m := newMachine(t)
	m.socket = filepath.Join(m.dir, "bare")
	manager := resmgr.New(resmgr.Options{})
	manager.Ready()
	ctx, cancel := context.WithCancel(context.Background())
	served := m.serve(ctx, manager)
	defer func() { cancel(); <-served; manager.Close() }()

	m.ends(m.logIn("builtin", "card_only = true;"), login.NoCard)
	if !m.asked("Error 2388") || !strings.Contains(m.log.String(), "no reader is connected") {
		t.Errorf("said %q\n%s", m.said, m.log)
	}
}

// openSC is the path of OpenSC's library; one that is missing is named too.
func openSC() string {
	found, _ := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	return append(found, "/nonexistent/opensc-pkcs11.so")[0]
}

// TestWaitForTheBuiltinCard: several blocks are waited for, and the card that comes is the first one's.
func TestWaitForTheBuiltinCard(t *testing.T) {
	m := newMachine(t)
	card := m.pivCard(m.ca.Leaf("alice"))
	m.inserts = func() { m.slot.Insert(card) }
	m.ends(m.logIn("builtin, soft", "card_only = true; wait_for_card = true;", pivPIN), login.Success)
	if !m.loaded() || !m.asked("PIV card PIN") || card.Verifies() != 1 {
		t.Errorf("loaded %v, said %q, %d PINs", m.loaded(), m.said, card.Verifies())
	}
}

// TestLibraryOverTheDaemon: pcsc_socket and card_access lead a library to the daemon. Behind the
// built-in card it is not loaded for a PIV card.
func TestLibraryOverTheDaemon(t *testing.T) {
	if _, err := os.Stat(openSC()); err != nil {
		t.Fatal("opensc-pkcs11.so is missing: install the Debian package opensc-pkcs11")
	}
	m := newMachine(t)
	card := m.pivCard(m.ca.Leaf("alice"))
	m.insert(card)

	m.ends(m.logIn("builtin, opensc", "", pivPIN), login.Success)
	if m.loaded() || card.Verifies() != 1 {
		t.Errorf("loaded %v, %d PINs", m.loaded(), card.Verifies())
	}
	m.ends(m.logIn("opensc", "", pivPIN), login.Success)
	if !m.loaded() || card.Verifies() != 2 {
		t.Errorf("loaded %v, %d PINs", m.loaded(), card.Verifies())
	}

	m.slot.Remove()
	m.insert(other{})
	m.ends(m.logIn("builtin, opensc", ""), login.NoCard)
	if !m.loaded() {
		t.Error("the library was not asked about a card of another kind")
	}
}
