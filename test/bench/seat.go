package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/simcard/models"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/test/rig"
	"pam_pkcs11/test/scene"
)

// seat is a contestant with a PIV card of its own, in a reader of the daemon that belongs to it.
type seat struct {
	*contestant
	card      *simcard.Card
	rig       *rig.Rig // nil: Debian's pcscd has the reader
	meter     meter
	commands  []int
	simulated []time.Duration // what the card's own time was after the PIN
	begun     []time.Duration // when the card got its first command, by the host program's clock
	stops     []func()
}

// meter notes how much time the card has taken until each command.
type meter struct {
	mu    sync.Mutex
	marks []mark
}

type mark struct {
	at       time.Duration // by the host program's clock
	ins      byte
	spent    time.Duration
	verifies int
}

// seats are the three stacks that are compared, each with its cache.
func (b *cardBench) seats(p models.Profile) (all []*seat, err error) {
	for _, make := range []func(string, models.Profile, *testca.Key) (*seat, error){b.builtin, b.withOpenSC, b.oldStack} {
		s, err := make(fmt.Sprintf("%s-%d", p.Name, len(all)), p, benchKey())
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
	return all, nil
}

// newSeat makes one with a card of a profile.
func (b *cardBench) newSeat(name string, p models.Profile, key *testca.Key) (*seat, error) {
	card, err := simcard.New(simcard.Options{PIN: pin, ATR: p.ATR, Pace: p.Pace})
	if err != nil {
		return nil, err
	}
	cert := b.scene.CA.Leaf(user, testca.WithKey(key))
	if err := card.SetKey(simcard.KeyAuthentication, key.Private, cert.DER); err != nil {
		return nil, err
	}
	s := &seat{card: card, contestant: &contestant{bench: b.bench, name: name}}
	card.Watch(func(_ int, header [4]byte) error {
		s.meter.mu.Lock()
		defer s.meter.mu.Unlock()
		s.meter.marks = append(s.meter.marks, mark{monotonic(), header[1], card.Spent(), card.Verifies()})
		return nil
	}, nil)
	return s, nil
}

// reader is the kind of reader that a card of a profile is in: a YubiKey is its own, of APDU level.
func reader(p models.Profile) ccidtest.Profile {
	level := ccidtest.LevelTPDU
	if p.Name == "yubikey5" {
		level = ccidtest.LevelExtended
	}
	r, _ := ccidtest.Model(level)
	return r
}

// directory makes a directory for what belongs to a seat.
func (b *cardBench) directory(name string) (string, error) {
	dir := filepath.Join(b.scene.Dir, "cards", name)
	return dir, os.Mkdir(dir, 0o755)
}

// inOurReader puts the card into a reader of our daemon.
func (b *cardBench) inOurReader(name string, p models.Profile, key *testca.Key) (*seat, error) {
	s, err := b.newSeat(name, p, key)
	if err != nil {
		return nil, err
	}
	dir, err := b.directory(name)
	if err != nil {
		return nil, err
	}
	if s.rig, err = rig.Start(filepath.Join(dir, "s"), reader(p), s.card); err != nil {
		return nil, err
	}
	s.stops = append(s.stops, s.rig.Stop)
	return s, nil
}

// builtin is this module with the built-in card.
func (b *cardBench) builtin(name string, p models.Profile, key *testca.Key) (*seat, error) {
	s, err := b.inOurReader(name, p, key)
	if err != nil {
		return nil, err
	}
	s.contestant.card = scene.ForeignCard(name, pin, "")
	conf, err := b.scene.BuiltinConfig(name, s.rig.Socket, mappers, []string{"card_access = system;"})
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, b.scene.Service(name, "required MODULE config_file="+conf)
}

// withOpenSC is this module with opensc-pkcs11, over our daemon.
func (b *cardBench) withOpenSC(name string, p models.Profile, key *testca.Key) (*seat, error) {
	s, err := b.inOurReader(name, p, key)
	if err != nil {
		return nil, err
	}
	return s, b.openSC(s, "MODULE", s.rig.Socket)
}

// oldStack is Debian's libpam-pkcs11 with opensc-pkcs11, over Debian's pcscd and vsmartcard's
// reader.
func (b *cardBench) oldStack(name string, p models.Profile, key *testca.Key) (*seat, error) {
	other, err := debianModule()
	if err != nil {
		return nil, err
	}
	s, err := b.newSeat(name, p, key)
	if err != nil {
		return nil, err
	}
	dir, err := b.directory(name)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config, err := pcsctest.WriteVPCDConfig(dir, "Virtual PCD", port)
	if err != nil {
		return nil, err
	}
	stock, err := pcsctest.StartStock(dir, config, io.Discard)
	if err != nil {
		return nil, err
	}
	s.stops = append(s.stops, stock.Stop)
	card, err := pcsctest.InsertVPCD(port, s.card)
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	s.stops = append(s.stops, card.Remove)
	if err := rig.AwaitCard(stock.Socket); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, b.openSC(s, other, stock.Socket)
}

// freePort is one where vsmartcard's reader can listen.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// mappers is what both modules use to know the user.
var mappers = []string{"use_mappers = cn;", "mapper cn {\n    debug = false;\n    module = internal;\n    ignorecase = false;\n  }"}

// openSC makes the service of a seat whose library is OpenSC's, with its cache of files.
func (b *cardBench) openSC(s *seat, module, socket string) error {
	libraries, _ := filepath.Glob("/usr/lib/*/opensc-pkcs11.so")
	if len(libraries) == 0 {
		return errors.New("opensc-pkcs11.so is not there: install the Debian package opensc-pkcs11")
	}
	dir := filepath.Join(b.scene.Dir, "cards", s.name)
	cache, conf := filepath.Join(dir, "cache"), filepath.Join(dir, "opensc.conf")
	text := fmt.Sprintf("app default {\n  framework pkcs15 {\n    use_file_caching = public;\n    file_cache_dir = %s;\n  }\n}\n", cache)
	if err := errors.Join(os.Mkdir(cache, 0o700), os.WriteFile(conf, []byte(text), 0o644)); err != nil {
		return err
	}
	s.contestant.card = scene.ForeignCard(s.name, pin, libraries[0], "PCSCLITE_CSOCK_NAME="+socket, "OPENSC_CONF="+conf)
	return s.service(s.name, module, s.contestant.card)
}

// stop takes the card out and ends the daemon.
func (s *seat) stop() error {
	for len(s.stops) > 0 {
		last := len(s.stops) - 1
		s.stops[last]()
		s.stops = s.stops[:last]
	}
	return nil
}

// login is one login, of which the card notes its part.
func (s *seat) login(think time.Duration) error {
	s.meter.mu.Lock()
	s.meter.marks = nil
	s.meter.mu.Unlock()
	if err := s.contestant.login(think); err != nil {
		return err
	}
	s.meter.mu.Lock()
	defer s.meter.mu.Unlock()
	if len(s.meter.marks) == 0 {
		return errors.New("a login without a command at the card")
	}
	s.begun = append(s.begun, s.meter.marks[0].at)
	s.commands = append(s.commands, len(s.meter.marks))
	s.simulated = append(s.simulated, s.meter.afterPIN(s.card.Spent(), s.card.Verifies()))
	return nil
}

// afterPIN is how much time the card has taken for VERIFY, the SELECT right before it, and all that
// followed; spent and verifies are as they are now.
func (m *meter) afterPIN(spent time.Duration, verifies int) time.Duration {
	const selection = 0xA4
	for i := range m.marks {
		next := verifies
		if i+1 < len(m.marks) {
			next = m.marks[i+1].verifies
		}
		if next == m.marks[i].verifies {
			continue
		}
		if i > 0 && m.marks[i-1].ins == selection {
			i--
		}
		return spent - m.marks[i].spent
	}
	return 0
}

// beyond is PIN to verdict without the card's own time, of each login.
func (s *seat) beyond() []time.Duration {
	var all []time.Duration
	for i, sample := range s.samples {
		all = append(all, sample.verdict-s.simulated[i])
	}
	return all
}

// cardToPrompt is the time from the card's first command to the prompt, of each login.
func (s *seat) cardToPrompt() []time.Duration {
	var all []time.Duration
	for i, sample := range s.samples {
		all = append(all, sample.prompted-s.begun[i])
	}
	return all
}

// faults is the median of the page faults of host and worker; -1: not counted.
func (s *seat) faults() int {
	var all []int
	for _, sample := range s.samples {
		if sample.faults < 0 || sample.worker < 0 {
			return -1
		}
		all = append(all, sample.faults+sample.worker)
	}
	return middle(all)
}
