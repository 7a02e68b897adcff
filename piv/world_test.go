package piv_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
	"pam_pkcs11/piv"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/token"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long something may take on a busy machine before a test gives up on it.
const patience = 2 * time.Minute

// rightPIN is that of the simulated cards.
const rightPIN = "123456"

// reader is the name of a world's first reader; second is that of the other.
const (
	reader = "Test Reader 00 00"
	second = "Other Reader 01 00"
)

// tap is a simulated card, and all that is sent to it.
type tap struct {
	pcsctest.Card

	mu     sync.Mutex
	sent   []string // INS, P1 and P2 of each command, in hexadecimal
	before func(n int, command []byte)
	after  func(n int, command []byte, answer []byte) []byte
}

func (t *tap) Transmit(command []byte) ([]byte, error) {
	t.mu.Lock()
	n := len(t.sent)
	t.sent = append(t.sent, fmt.Sprintf("%X", command[:min(len(command), 4)]))
	before, after := t.before, t.after
	t.mu.Unlock()

	if before != nil {
		before(n, command)
	}
	answer, err := t.Card.Transmit(command)
	if after != nil {
		answer = after(n, command, answer)
	}
	return answer, err
}

// take returns what was sent since the last take.
func (t *tap) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	sent := t.sent
	t.sent = nil
	return sent
}

// world is a service with two readers, and a card in the first.
type world struct {
	t       *testing.T
	manager *resmgr.Manager
	base    pcsc.Service // of other programs
	service pcsc.Service // of the module under test
	slot    *pcsctest.Slot
	other   *pcsctest.Slot
	card    *simcard.Card
	tap     *tap
	cache   *cache.Cache
	options piv.Options
}

// newWorld makes one with a card of its own, which is in the reader.
func newWorld(t *testing.T, o simcard.Options) *world {
	t.Helper()
	w := &world{t: t, slot: pcsctest.NewSlot(true), other: pcsctest.NewSlot(true)}
	w.card = newCard(t, o)
	w.tap = &tap{Card: w.card}
	if stockIsTested() {
		w.startStock()
	} else {
		w.startManager()
	}
	w.insert(w.tap)

	var err error
	if w.cache, err = cache.Open(filepath.Join(t.TempDir(), "cache"), cache.Options{}); err != nil {
		t.Fatal(err)
	}
	w.options.Cache = w.cache
	return w
}

// readers are what the drivers of the world tell.
func (w *world) readers() []pcsctest.Reader {
	return []pcsctest.Reader{
		{ID: "1", Product: "Test Reader", Slots: []*pcsctest.Slot{w.slot}},
		{ID: "2", Product: "Other Reader", Slots: []*pcsctest.Slot{w.other}},
	}
}

// startManager makes a resource manager in the process.
func (w *world) startManager() {
	w.manager = resmgr.New(resmgr.Options{})
	driver := pcsctest.NewDriver(w.readers()...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := resmgr.Plug(ctx, w.manager, driver)
	w.manager.Ready()
	w.t.Cleanup(func() {
		cancel()
		<-ended
		w.manager.Close()
	})
	w.base, w.service = w.manager, w.manager
}

func newCard(t *testing.T, o simcard.Options) *simcard.Card {
	t.Helper()
	card, err := simcard.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return card
}

// overSocket has the world's service used through a daemon's socket from now on.
func (w *world) overSocket() {
	w.t.Helper()
	socket := filepath.Join(w.t.TempDir(), "comm")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = unix.Listen(fd, 300)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	s := &server.Server{Manager: w.manager}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, fd) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
		unix.Close(fd)
	})
	w.service = pcsc.NewClient(socket)
}

// insert puts a card into the first reader and waits until the manager knows.
func (w *world) insert(c pcsctest.Card) {
	w.t.Helper()
	w.slot.Insert(c)
	w.await(reader, pcsc.StatePresent)
}

func (w *world) remove() {
	w.t.Helper()
	w.slot.Remove()
	w.await(reader, pcsc.StateEmpty)
}

// await waits until a reader is in a state.
func (w *world) await(name string, state pcsc.StateFlag) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	pc, err := pcsc.NewContext(w.base)
	if err != nil {
		w.t.Fatal(err)
	}
	defer pc.Release()
	states := []pcsc.ReaderState{{Reader: name}}
	for states[0].EventState&state == 0 {
		states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
		if err := pc.GetStatusChangeContext(ctx, states, -1); err != nil {
			w.t.Fatal(err)
		}
	}
}

// module makes a module over the service, as a login does.
func (w *world) module() *piv.Module {
	w.t.Helper()
	m, err := piv.New(w.service, w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { m.Close() })
	return m
}

// open lists the readers and opens the card in the first.
func (w *world) open(m *piv.Module) token.Session {
	w.t.Helper()
	slots, err := m.Slots(w.ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	if len(slots) == 0 || slots[0].Err != nil || slots[0].Token == nil {
		w.t.Fatalf("slots: %+v", slots)
	}
	s, err := m.Open(w.ctx(), slots[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// proof is a login's part: it takes the first certificate, and checks the signature with it.
type proof struct {
	t       *testing.T
	objects []token.Object
	uses    []token.KeyUse
	passed  []error
	anew    int // how often Anew was called
	noAnew  bool

	more func(iter.Seq2[token.Object, error]) []token.Object // what else is to be tried; nil is nothing
}

var challenge = []byte("what the card is to sign, chosen by the machine and never by the card")

func (p *proof) choose(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
	c := token.Choice{
		Objects: p.objects,
		Message: func() ([]byte, error) { return challenge, nil },
		Signing: func(u token.KeyUse) func() {
			p.uses = append(p.uses, u)
			return func() {}
		},
		Passed: func(_ token.Object, err error) { p.passed = append(p.passed, err) },
		Anew: func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
			p.anew++
			p.objects = nil
			for o, err := range shown {
				if err != nil {
					return token.Choice{}, err
				}
				p.objects = append(p.objects, o)
			}
			return p.choose(nil)
		},
	}
	if p.noAnew {
		c.Anew = nil
	}
	if p.more != nil {
		c.More = func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
			p.objects, p.more = p.more(shown), nil
			return p.choose(nil)
		}
	}
	return c, nil
}

// errNotProved: the signature does not belong to the certificate.
var errNotProved = errors.New("the signature is not the certificate's")

// logIn logs in as a login does, and fails unless the signature is the certificate's.
func (w *world) logIn(s token.Session, pin string) (*proof, error) {
	w.t.Helper()
	p := &proof{t: w.t}
	for o, err := range s.Certificates(w.ctx()) {
		if err != nil {
			return p, err
		}
		if o.Err == nil {
			p.objects = append(p.objects, o)
			break
		}
	}
	return p, w.prove(s, p, pin)
}

func (w *world) prove(s token.Session, p *proof, pin string) error {
	w.t.Helper()
	typed := newPIN(w.t, pin)
	defer typed.Wipe()
	sig, err := s.LogInAndSign(w.ctx(), typed, p.choose)
	if err != nil {
		return err
	}
	if !verifies(p.objects[sig.Object].Cert.PublicKey, sig, challenge) {
		return errNotProved
	}
	return nil
}

func newPIN(t *testing.T, s string) *secret.PIN {
	t.Helper()
	pin, err := secret.New([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return pin
}

// login is a whole login with a module of its own. It returns what was sent.
func (w *world) login(pin string) ([]string, error) {
	w.t.Helper()
	w.tap.take()
	m := w.module()
	s := w.open(m)
	_, err := w.logIn(s, pin)
	if end := errors.Join(s.Close(), m.Close()); end != nil {
		w.t.Error(end)
	}
	return w.tap.take(), err
}

// Keys are made once: RSA takes its time.
var (
	rsaKey   = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	rsa3072  = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 3072)) })
	p256     = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	other256 = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384     = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	issuer   = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// certify makes a certificate of about the size of those in use: with an RSA key of 1.1 kB, with
// one on a curve of 0.6.
func certify(key crypto.Signer, cn string, serial int64) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: cn, Organization: []string{"Example"}},
		NotBefore:    time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "An authority with a name of the usual length", Organization: []string{"Example"}}}
	padding := 150
	if _, ok := key.(*rsa.PrivateKey); ok {
		padding = 500
	}
	template.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, padding)}}
	return must(x509.CreateCertificate(rand.Reader, template, ca, key.Public(), issuer()))
}

// put gives the world's card a key with a certificate.
func (w *world) put(ref simcard.KeyRef, key crypto.Signer, cn string) {
	w.t.Helper()
	if err := w.card.SetKey(ref, key, certify(key, cn, 1)); err != nil {
		w.t.Fatal(err)
	}
}
