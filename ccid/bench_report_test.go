//go:build bench

package ccid_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/ccid/usb"
)

// rates are data rates to measure ourselves against, in bit/s: the fastest that many readers have (contactless, ISO
// 14443), and the fastest that any descriptor claims (SpringCard CSB6). At most share of the time that the bytes need
// may be ours.
var rates = []struct {
	name string
	bits float64
}{{"848000 bit/s, the fastest common", 848000}, {"12643980 bit/s, the fastest claimed", 12643980}}

const share = 0.05

// etuPerByte is the shortest character of T=1 (ISO 7816-3, 11.2).
const etuPerByte = 11

// TestBenchCCID prints and judges what the driver costs.
func TestBenchCCID(t *testing.T) {
	fmt.Printf("T=1 over a simulated transport that answers at once; CPU time of driver and simulated card together\n")
	fmt.Printf("%-12s %10s %10s %8s", "APDU", "APDU/s", "us/APDU", "bytes")
	for _, r := range rates {
		fmt.Printf("  %s", r.name)
	}
	fmt.Println()
	for _, x := range exchanges {
		cpu, wire := measure(t, x.nc, x.ne)
		fmt.Printf("%-12s %10.0f %10.1f %8d", x.name, float64(time.Second)/float64(cpu), float64(cpu)/1000, wire)
		for _, r := range rates {
			need := float64(wire) * etuPerByte / r.bits * float64(time.Second)
			part := float64(cpu) / need
			fmt.Printf("  %*.2f %%", len(r.name)-2, 100*part)
			if part > share {
				t.Errorf("%s: %.1f %% of the time that the bytes need at %s", x.name, 100*part, r.name)
			}
		}
		fmt.Println()
	}
}

// measure is the CPU time of one exchange, the best of some runs, and the bytes between reader and card.
func measure(t *testing.T, nc, ne int) (cpu time.Duration, wire int) {
	i, s := newInstant(t, ne)
	command, reply := apdu(nc, ne), make([]byte, 0, 70000)
	transmit := func() {
		if _, err := s.Transmit(t.Context(), t1, command, reply); err != nil {
			t.Fatal(err)
		}
	}
	transmit()
	i.wire = 0
	transmit()
	wire = i.wire
	n := 1 + 4_000_000/(wire+200)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 7 {
		start := threadTime(t)
		for range n {
			transmit()
		}
		if d := (threadTime(t) - start) / time.Duration(n); cpu == 0 || d < cpu {
			cpu = d
		}
	}
	return cpu, wire
}

// threadTime is the CPU time of this thread.
func threadTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestBenchIdle counts how often anything of ours wakes up in ten seconds: the driver without a reader, and with 16
// simulated ones that have cards.
func TestBenchIdle(t *testing.T) {
	const seconds = 10
	count := func(what string, most int) {
		least := 0
		for try := range 3 { // the runtime has wake-ups of its own for a while, for its garbage and its threads
			runtime.GC()
			time.Sleep(time.Second) // what is measured is what wakes up while all of us sleep
			before := switches(t)
			time.Sleep(seconds * time.Second)
			n := max(switches(t)-before-1, 0) // our own sleep
			if least = min(least, n); try == 0 {
				least = n
			}
			if least <= 2 {
				break
			}
		}
		fmt.Printf("idle, %s: %d wake-ups in %d s\n", what, least, seconds)
		if least > most {
			t.Errorf("%s: %d wake-ups", what, least)
		}
	}
	count("nothing of ours, to compare with", 1000)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	settled := make(chan struct{})
	go func() {
		ended <- usb.NewDriver(plan.Options{}, nil).Run(ctx, func(string, string, string, string, []*ccid.Slot) {}, func(string) {}, func() { close(settled) })
	}()
	<-settled
	count("the driver without a reader", 10)
	stop()
	<-ended
	for range 16 {
		d := ccidtest.New(profile(descriptor(extended)))
		r, err := ccid.Open(t.Context(), d.Transport(0), d.Info(), interfaceOf(t, d, 0), plan.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT1})
		<-r.Slots()[0].Events()
		ready(t, r.Slots()[0], t1)
	}
	count("16 readers with cards", 10)
}

// switches is how often the threads of this process have gone to sleep of themselves.
func switches(t *testing.T) int {
	names, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var n int
			if _, err := fmt.Sscanf(line, "voluntary_ctxt_switches: %d", &n); err == nil {
				sum += n
			}
		}
	}
	return sum
}
