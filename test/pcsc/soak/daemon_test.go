package soak

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/cmd/pcscd/daemon"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// The test binary is the daemon too, in a process of its own that can be ended at any moment.
func TestMain(m *testing.M) {
	if socket := os.Getenv("PCSC_SOAK_DAEMON"); socket != "" {
		os.Exit(runDaemon(socket))
	}
	os.Exit(m.Run())
}

// keeper is a card that keeps two bytes: 10 stores them, 20 gives them back; 80 is echoed.
type keeper struct{ kept [2]byte }

func (k *keeper) ATR() []byte { return pcsctest.EchoATR }
func (k *keeper) Reset()      { k.kept = [2]byte{} }

func (k *keeper) Transmit(command []byte) ([]byte, error) {
	switch {
	case len(command) == 6 && command[0] == 0x10:
		copy(k.kept[:], command[4:])
		return []byte{0x90, 0x00}, nil
	case command[0] == 0x20:
		return []byte{k.kept[0], k.kept[1], 0x90, 0x00}, nil
	}
	return append(bytes.Clone(command), 0x90, 0x00), nil
}

// vitals are what must not grow.
type vitals struct {
	Goroutines, Descriptors, Resident int // Resident in KiB
	Manager                           string
}

// stage is the readers and who moves them.
type stage struct {
	driver  *pcsctest.Driver
	readers []pcsctest.Reader
	manager *resmgr.Manager
	mu      sync.Mutex
	quiet   bool
}

// runDaemon serves at socket. A line on standard input: "vitals" prints them, "quiet" ends the movements.
func runDaemon(socket string) int {
	seed, _ := strconv.ParseUint(os.Getenv("PCSC_SOAK_SEED"), 10, 64)
	s := &stage{}
	for i := range 4 {
		s.readers = append(s.readers, pcsctest.Reader{ID: fmt.Sprint(i), Product: fmt.Sprintf("Soak %d", i), Slots: []*pcsctest.Slot{newSlot()}})
	}
	s.driver = pcsctest.NewDriver(s.readers...)
	p := &daemon.Program{
		Name: "pcscd", Args: []string{"--foreground", "--socket", socket, "--max-thread", "400", "--max-card-handle-per-reader", "400"},
		Env: func(string) string { return "" }, Stdout: os.Stdout, Stderr: os.Stderr, Default: "sim",
		Readers: []daemon.Readers{{Name: "sim", Usage: "sim", Plug: func(ctx context.Context, m *resmgr.Manager, _ string, _ *slog.Logger) (<-chan error, error) {
			s.manager = m
			return resmgr.Plug(ctx, m, s.driver), nil
		}}},
		Ready: func() {
			go s.move(rand.New(rand.NewPCG(seed, 2)))
			go s.answer()
		},
	}
	return p.Run(context.Background())
}

func newSlot() *pcsctest.Slot {
	slot := pcsctest.NewSlot(true)
	slot.Insert(&keeper{})
	return slot
}

// move takes cards and readers out and puts them back.
func (s *stage) move(r *rand.Rand) {
	for {
		time.Sleep(time.Duration(20+r.IntN(200)) * time.Millisecond)
		s.mu.Lock()
		if s.quiet {
			s.mu.Unlock()
			return
		}
		i := r.IntN(len(s.readers))
		switch r.IntN(6) {
		case 0:
			s.driver.Remove(s.readers[i].ID)
			time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
			s.readers[i].Slots = []*pcsctest.Slot{newSlot()}
			s.driver.Add(s.readers[i])
		case 1:
			s.readers[i].Slots = []*pcsctest.Slot{newSlot()}
			s.driver.Add(s.readers[i]) // without a removal before
		default:
			s.readers[i].Slots[0].Remove()
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
			s.readers[i].Slots[0].Insert(&keeper{})
		}
		s.mu.Unlock()
	}
}

func (s *stage) answer() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "quiet":
			s.mu.Lock()
			s.quiet = true
			s.mu.Unlock()
		case "vitals":
			debug.FreeOSMemory()
			v := vitals{Goroutines: runtime.NumGoroutine(), Descriptors: descriptors(os.Getpid()), Resident: resident(os.Getpid()), Manager: s.manager.String()}
			json.NewEncoder(os.Stdout).Encode(v)
		}
	}
}
