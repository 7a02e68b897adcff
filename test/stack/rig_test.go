//go:build cgo

package stack

import (
	"context"
	"crypto/elliptic"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/test/rig"
	"pam_pkcs11/test/scene"
)

// patience is how long anything may take on a busy machine before a test gives up on it.
const patience = 3 * time.Minute

// deadline is how long a login may take that is disturbed, beyond what the user takes: a hang is
// longer.
const deadline = 60 * time.Second

const (
	pin      = "271828"
	wrongPIN = "271829"
	puk      = "12345678"
)

// build is where `make build` puts the module.
const build = "../../build"

// stage is the scene that all tests share: the authority, and the directory of everything else.
var stage = sync.OnceValues(func() (*scene.Scene, error) { return scene.New(build) })

func TestMain(m *testing.M) {
	if err := scene.InEnglish(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
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

var readers = []model{
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

// rigs counts them.
var rigs atomic.Int64

// testRig is a rig with the card in it, and the configuration of logins with it.
type testRig struct {
	*rig.Rig
	t    *testing.T
	name string // of its service and configuration
	card *simcard.Card
	conf string

	cache *cache.Cache // of direct logins; nil: none
}

// newRig makes one with a card that has no key yet.
func newRig(t *testing.T, m model, o simcard.Options) *testRig {
	t.Helper()
	profile, ok := ccidtest.Model(m.level)
	if !ok {
		t.Fatalf("no reader of level %s", m.level)
	}
	return newRigWith(t, m, o, profile)
}

// newRigWith makes one with another reader.
func newRigWith(t *testing.T, m model, o simcard.Options, profile ccidtest.Profile) *testRig {
	t.Helper()
	s := theStage(t)
	r := &testRig{t: t, name: fmt.Sprintf("rig%d", rigs.Add(1))}
	dir := filepath.Join(s.Dir, "cards", r.name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

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
	if r.Rig, err = rig.Start(filepath.Join(dir, "s"), profile, r.card); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	r.await(pcsc.StatePresent)
	r.configure(nil, nil)
	return r
}

// await waits until the reader is in a state.
func (r *testRig) await(state pcsc.StateFlag) {
	r.t.Helper()
	r.awaitReader(rig.ReaderName, state)
}

// awaitReader waits until a reader is there and in a state.
func (r *testRig) awaitReader(name string, state pcsc.StateFlag) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Await(ctx, name, state); err != nil {
		r.t.Fatal(err)
	}
}

// put puts a key with a certificate of a user on the card.
func (r *testRig) put(ref simcard.KeyRef, user string, key *testca.Key) *testca.Cert {
	r.t.Helper()
	cert := theStage(r.t).CA.Leaf(user, testca.WithKey(key))
	if err := r.card.SetKey(ref, key.Private, cert.DER); err != nil {
		r.t.Fatal(err)
	}
	return cert
}

// configure writes the configuration of the rig's logins and its PAM service; lines beyond the
// usual go into the global part and into the block of the built-in card.
func (r *testRig) configure(global, module []string) {
	r.t.Helper()
	s := theStage(r.t)
	if err := service(s, r.name, r.Socket, global, module); err != nil {
		r.t.Fatal(err)
	}
	r.conf = filepath.Join(s.Dir, "conf", r.name+".conf")
}

// service makes a PAM service of that name with the built-in card at a socket.
func service(s *scene.Scene, name, socket string, global, module []string) error {
	conf, err := s.BuiltinConfig(name, socket, append([]string{
		"card_only = true;", "use_mappers = cn;", "allow_unknown_user = true;",
	}, global...), append([]string{"card_access = system;", "piv_cache = no;"}, module...))
	if err != nil {
		return err
	}
	return s.Service(name, "required MODULE config_file="+conf)
}

// known makes it a card of alice with one key in 9A.
func (r *testRig) known(key *testca.Key) *testRig {
	r.t.Helper()
	r.put(simcard.KeyAuthentication, "alice", key)
	return r
}
