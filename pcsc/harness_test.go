package pcsc_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if removeAtEnd != "" {
			os.RemoveAll(removeAtEnd)
		}
		os.Exit(code)
	}))
}

// reader is the first reader of every world.
const reader = "Test Reader [Smart Card] (0815) 00 00"

// world is a service with readers to play with.
type world struct {
	t       *testing.T
	service pcsc.Service
	socket  string // "" in the process
	slot    *pcsctest.Slot
	second  *pcsctest.Slot
	driver  *pcsctest.Driver
	manager *resmgr.Manager
	server  *server.Server
	reader  string
	stock   bool // the daemon under test is Debian's

	stop func() // ends the daemon

	mu     sync.Mutex
	faults map[string]int // what the first slot's calls fail with, see fail
}

// fail makes a call of the first slot end with an IFD handler code from now on; 0 ends that.
func (w *world) fail(call string, code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[call] = code
}

func (w *world) fault(call string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code := w.faults[call]; code != 0 {
		return pcsctest.IFDError(code)
	}
	return nil
}

// prepare makes the slots.
func (w *world) prepare(s settings) {
	w.faults = map[string]int{}
	w.slot, w.second = pcsctest.NewSlot(s.notify), pcsctest.NewSlot(s.notify)
	w.slot.Fault = w.fault
	if s.prepare != nil {
		s.prepare(w)
	}
}

// settings change a world before it begins.
type settings struct {
	options resmgr.Options
	notify  bool
	polled  bool // the readers do not notify; Debian's pcscd is told when to look
	auth    server.Authorizer
	prepare func(w *world)
	clients int
	netpoll bool // the server's plain form
}

func newManagerWorld(t *testing.T, s settings) *world {
	t.Helper()
	w := &world{t: t, reader: reader}
	w.prepare(s)
	w.driver = pcsctest.NewDriver(w.readers()...)
	if testing.Verbose() && s.options.Logger == nil {
		s.options.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w.manager = resmgr.New(s.options)
	ctx, cancel := context.WithCancel(context.Background())
	ended := resmgr.Plug(ctx, w.manager, w.driver)
	w.manager.Ready()
	w.service = w.manager
	t.Cleanup(func() {
		cancel()
		<-ended
		w.manager.Close()
	})
	return w
}

func (w *world) readers() []pcsctest.Reader {
	return []pcsctest.Reader{
		{ID: "1", Product: "Test Reader", Interface: "Smart Card", Serial: "0815", Slots: []*pcsctest.Slot{w.slot}},
		{ID: "2", Product: "Other Reader", Slots: []*pcsctest.Slot{w.second}}}
}

func newServerWorld(t *testing.T, s settings) *world {
	t.Helper()
	w := newManagerWorld(t, s)
	w.socket = filepath.Join(t.TempDir(), "comm")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: w.socket})
	}
	if err == nil {
		err = unix.Listen(fd, 300)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.server = &server.Server{
		Manager:    w.manager,
		Authorizer: s.auth,
		Logger:     s.options.Logger,
		MaxClients: s.clients,
		Netpoll:    s.netpoll,
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.server.Serve(ctx, fd) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		unix.Close(fd)
	}
	t.Cleanup(w.stop)
	w.service = pcsc.NewClient(w.socket)
	return w
}

// inBothForms runs a test over the manager itself and over the socket, whose server waits in either way, or over Debian's daemon when PCSCD_UNDER_TEST is
// "system".
func inBothForms(t *testing.T, s settings, test func(t *testing.T, w *world)) {
	t.Helper()
	s.notify = !s.polled || stockIsTested()
	if stockIsTested() {
		test(t, newSystemWorld(t, s))
		return
	}
	t.Run("manager", func(t *testing.T) { test(t, newManagerWorld(t, s)) })
	t.Run("socket", func(t *testing.T) { test(t, newServerWorld(t, s)) })
	s.netpoll = true
	t.Run("socket, plain", func(t *testing.T) { test(t, newServerWorld(t, s)) })
}

// inDaemons is inBothForms for tests that need a socket.
func inDaemons(t *testing.T, s settings, test func(t *testing.T, w *world)) {
	t.Helper()
	s.notify = !s.polled || stockIsTested()
	if stockIsTested() {
		test(t, newSystemWorld(t, s))
		return
	}
	test(t, newServerWorld(t, s))
	s.netpoll = true
	t.Run("plain", func(t *testing.T) { test(t, newServerWorld(t, s)) })
}

// stockIsTested tells whether Debian's pcscd is to be asked in place of ours.
func stockIsTested() bool { return os.Getenv("PCSCD_UNDER_TEST") == "system" }

// insert puts a card in and waits until the service knows.
func (w *world) insert(card pcsctest.Card) {
	w.t.Helper()
	w.slot.Insert(card)
	w.await(pcsc.StatePresent)
}

// remove takes the card out and waits until the service knows.
func (w *world) remove() {
	w.t.Helper()
	w.slot.Remove()
	w.await(pcsc.StateEmpty)
}

// swap takes the card out and puts one in at once; and waits until the service has seen both.
func (w *world) swap(card pcsctest.Card) {
	w.t.Helper()
	before := w.states()[0].EventState >> 16
	w.slot.Remove()
	if w.stock {
		w.await(pcsc.StateEmpty) // it only sees what is when it looks
	}
	w.slot.Insert(card)
	slowtest.Until(w.t, "the new card", func() bool {
		s := w.states()[0].EventState
		return s>>16 >= before+2 && s&pcsc.StatePresent != 0
	})
}

// letWait gives a call that another goroutine has begun the time to come to its wait in the service.
// That it waits cannot be seen from outside, least of all in Debian's daemon. A test must hold as
// well where the call comes later, if it asks less then.
func letWait() { time.Sleep(20 * time.Millisecond) }

// states looks at the first reader.
func (w *world) states() []pcsc.ReaderState {
	w.t.Helper()
	c := w.context()
	defer c.Release()
	states := []pcsc.ReaderState{{Reader: w.reader}}
	if err := c.GetStatusChange(states, 0); err != nil {
		w.t.Fatal(err)
	}
	return states
}

// await waits until the first reader has flag.
func (w *world) await(flag pcsc.StateFlag) pcsc.ReaderState {
	w.t.Helper()
	c := w.context()
	defer c.Release()
	states := []pcsc.ReaderState{{Reader: w.reader}}
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := c.GetStatusChange(states, time.Until(deadline))
		if err == pcsc.ErrUnknownReader && time.Now().Before(deadline) { // it has only just been added
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			w.t.Fatalf("waiting for state %X: %v, state is %X", flag, err, states[0].EventState)
		}
		if states[0].EventState&flag != 0 {
			return states[0]
		}
		states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
	}
}

func (w *world) context() *pcsc.Context {
	w.t.Helper()
	c, err := pcsc.NewContext(w.service)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// establish makes a context that ends with the test.
func (w *world) establish() *pcsc.Context {
	w.t.Helper()
	c := w.context()
	w.t.Cleanup(func() { c.Release() })
	return c
}

// raw makes a context by its number.
func (w *world) raw() pcsc.SCardContext {
	w.t.Helper()
	sc, err := w.service.EstablishContext(pcsc.ScopeSystem)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.service.ReleaseContext(sc) })
	return sc
}

// connect connects in a context of its own.
func (w *world) connect(mode pcsc.ShareMode) *pcsc.Card {
	w.t.Helper()
	card, err := w.establish().Connect(w.reader, mode, pcsc.ProtocolAny)
	if err != nil {
		w.t.Fatal(err)
	}
	return card
}

// expect compares errors by their PC/SC name.
func expect(t *testing.T, what string, got error, want pcsc.Error) {
	t.Helper()
	var e pcsc.Error
	if got != nil && !errors.As(got, &e) {
		t.Fatalf("%s: %v is no PC/SC error", what, got)
	}
	if e != want {
		t.Errorf("%s: %s, want %s", what, e.Name(), want.Name())
	}
}

// soon runs f and fails when it takes long.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not end", what)
	}
}

func background() context.Context { return context.Background() }
