//go:build cgo

package stack

import (
	"context"
	"crypto/elliptic"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/ccidtest/bus"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
	"pam_pkcs11/test/scene"
)

// patience is how long anything may take on a busy machine before a test gives up on it.
const patience = 3 * time.Minute

// deadline is how long a login may take that is disturbed, beyond what the user takes: a hang is longer.
const deadline = 60 * time.Second

const (
	pin      = "271828"
	wrongPIN = "271829"
	puk      = "12345678"
)

// readerName is the name of a rig's reader, as PC/SC has it.
const readerName = "Test Reader 00 00"

// build is where `make build` puts the module.
const build = "../../build"

// stage is the scene that all tests share: the authority, and the directory of everything else.
var stage = sync.OnceValues(func() (*scene.Scene, error) { return scene.New(build) })

func TestMain(m *testing.M) {
	for _, name := range []string{"LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES", "DISPLAY", "PKCS11_LOGIN_TOKEN_NAME"} {
		_ = os.Unsetenv(name) // the messages are compared in English
	}
	code := m.Run()
	if s, err := stage(); err == nil {
		_ = s.Close()
	}
	os.Exit(code)
}

func theStage(t *testing.T) *scene.Scene {
	t.Helper()
	s, err := stage()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// model is a kind of reader with a card that fits.
type model struct {
	name  string
	level ccidtest.Level
	atr   []byte
}

var models = []model{
	{"TPDU T=1", ccidtest.LevelTPDU, simcard.ATRT1},
	{"TPDU T=0", ccidtest.LevelTPDU, simcard.ATRT0},
	{"short APDU", ccidtest.LevelShort, simcard.ATRT1},
	{"extended APDU", ccidtest.LevelExtended, simcard.ATRT1},
}

// keys are those of alice's cards, made once.
var keys = []struct {
	name string
	key  func() *testca.Key
}{
	{"RSA-2048", func() *testca.Key { return testca.RSA(2048, "stack") }},
	{"RSA-3072", func() *testca.Key { return testca.RSA(3072, "stack") }},
	{"P-256", sync.OnceValue(testca.P256)},
	{"P-384", sync.OnceValue(func() *testca.Key { return testca.EC(elliptic.P384()) })},
}

var rigNumber struct {
	sync.Mutex
	n int
}

// rig is a reader with a card, the driver and the daemon, in this process.
type rig struct {
	t       *testing.T
	name    string // of its service and configuration
	dir     string
	socket  string
	bus     *bus.Bus
	device  *ccidtest.Device
	card    *simcard.Card
	profile ccidtest.Profile
	conf    string

	stopServer func()
}

// newRig makes one with a card that has no key yet. change may change what the card and its reader are.
func newRig(t *testing.T, m model, o simcard.Options) *rig {
	t.Helper()
	profile, ok := ccidtest.Model(m.level)
	if !ok {
		t.Fatalf("no reader of level %s", m.level)
	}
	return newRigWith(t, m, o, profile)
}

func newRigWith(t *testing.T, m model, o simcard.Options, profile ccidtest.Profile) *rig {
	t.Helper()
	s := theStage(t)
	rigNumber.Lock()
	rigNumber.n++
	r := &rig{t: t, name: fmt.Sprintf("rig%d", rigNumber.n), profile: profile}
	rigNumber.Unlock()
	r.dir = filepath.Join(s.Dir, "cards", r.name)
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(r.dir) })
	r.socket = filepath.Join(r.dir, "s")

	if o.PIN == "" {
		o.PIN, o.PUK = pin, puk
	}
	if o.ATR == nil {
		o.ATR = m.atr
	}
	var err error
	if r.card, err = simcard.New(o); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.configure(nil, nil)
	return r
}

// start starts driver, resource manager and server, with the card in the reader.
func (r *rig) start() {
	r.t.Helper()
	r.bus = bus.New(nil)
	m := resmgr.New(resmgr.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := resmgr.Plug(ctx, m, r.bus)
	m.Ready()
	r.plug()
	stop, err := serve(m, r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	r.stopServer = sync.OnceFunc(stop)
	r.t.Cleanup(func() {
		r.stopServer()
		cancel()
		<-ended
		m.Close()
	})
	r.await(pcsc.StatePresent)
}

// serve lets clients use a manager over a socket.
func serve(m *resmgr.Manager, socket string) (stop func(), err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = unix.Listen(fd, 300)
	}
	if err != nil {
		return nil, err
	}
	s := &server.Server{Manager: m}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, fd) }()
	return func() {
		cancel()
		<-ended
		unix.Close(fd)
	}, nil
}

// plug plugs the reader in, with the card in it.
func (r *rig) plug() {
	r.device = ccidtest.New(r.profile)
	r.device.Habits(0, 0, func(h *ccidtest.Habits) { h.Slow = true })
	r.device.Insert(0, 0, r.card)
	r.bus.Plug("Test Reader", r.device)
}

// unplug takes the reader away.
func (r *rig) unplug() { r.bus.Unplug(r.device) }

// pull takes the card out; insert puts it in.
func (r *rig) pull()   { r.device.Remove(0, 0) }
func (r *rig) insert() { r.device.Insert(0, 0, r.card) }

// client is another program at the same daemon.
func (r *rig) client() *pcsc.Context {
	r.t.Helper()
	c, err := pcsc.NewContext(pcsc.NewClient(r.socket))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// await waits until the reader is in a state.
func (r *rig) await(state pcsc.StateFlag) {
	r.t.Helper()
	r.awaitAt(readerName, state)
}

// awaitReader waits until another reader is there, with a card.
func (r *rig) awaitReader(name string) {
	r.t.Helper()
	r.awaitAt(name, pcsc.StatePresent)
}

func (r *rig) awaitAt(reader string, state pcsc.StateFlag) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := r.client()
	defer c.Release()
	for {
		states := []pcsc.ReaderState{{Reader: reader}}
		if err := c.GetStatusChangeContext(ctx, states, 0); err == nil && states[0].EventState&state != 0 {
			return
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("%s has not come to the state %v", reader, state)
		case <-time.After(time.Millisecond):
		}
	}
}

// put puts a key with a certificate of a user on the card.
func (r *rig) put(ref simcard.KeyRef, user string, key *testca.Key) *testca.Cert {
	r.t.Helper()
	cert := theStage(r.t).CA.Leaf(user, testca.WithKey(key))
	if err := r.card.SetKey(ref, key.Private, cert.DER); err != nil {
		r.t.Fatal(err)
	}
	return cert
}

// configure writes the configuration of the rig's logins and its PAM service; lines beyond the usual go into the global
// part and into the block of the built-in card.
func (r *rig) configure(global, module []string) {
	r.t.Helper()
	s := theStage(r.t)
	conf, err := s.BuiltinConfig(r.name, r.socket, append([]string{
		"card_only = true;", "use_mappers = cn;", "allow_unknown_user = true;",
	}, global...), append([]string{"card_access = system;", "piv_cache = no;"}, module...))
	if err == nil {
		err = s.Service(r.name, "required MODULE config_file="+conf)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.conf = conf
}

// known makes it a card of alice with one key in 9A.
func (r *rig) known(key *testca.Key) *rig {
	r.t.Helper()
	r.put(simcard.KeyAuthentication, "alice", key)
	return r
}
