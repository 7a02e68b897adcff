// Package secret keeps PINs in memory of their own: anonymous pages that are locked, left out of
// core files, wiped and given back to the kernel. The Go heap is no place for a PIN, because the
// collector neither wipes nor says what it copied.
package secret

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// MaxPIN is the largest PIN in bytes, as long as the longest answer that PAM carries
// (PAM_MAX_RESP_SIZE).
const MaxPIN = 512

// redacted is what a PIN prints as.
const redacted = "[redacted]"

// ErrTooLong is returned by New for more than MaxPIN bytes.
var ErrTooLong = errors.New("secret is too long")

// PIN is a secret. It prints as [redacted] with every verb, in slog and in JSON. Its methods may be
// called on nil, which is the absence of a PIN. They are not for several goroutines at once, except
// Wipe.
type PIN struct {
	// mu guards the fields below.
	mu    sync.Mutex
	pages []byte // the whole mapping; nil once wiped
	n     int
}

// New copies b to memory of its own and wipes b, also when it fails. It fails with ErrTooLong, or
// when the kernel gives no memory. That the memory cannot be locked (RLIMIT_MEMLOCK) is no failure:
// then it may be swapped out.
func New(b []byte) (*PIN, error) {
	defer Wipe(b)
	if len(b) > MaxPIN {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLong, MaxPIN)
	}
	return newLocked(b, unix.Mlock)
}

// newLocked is New with the lock as an argument, so that a test can refuse it.
func newLocked(b []byte, lock func([]byte) error) (*PIN, error) {
	// One page at least, also for an empty PIN: C_Login must see a pointer, as NULL means the
	// reader's own keypad.
	pages, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("memory for a secret: %w", err)
	}

	// Best effort, see New. Core files are off in the worker anyway; a library that forks must take
	// no copy along.
	_ = lock(pages)
	_ = unix.Madvise(pages, unix.MADV_DONTDUMP)
	_ = unix.Madvise(pages, unix.MADV_WIPEONFORK)

	copy(pages, b)
	return &PIN{pages: pages, n: len(b)}, nil
}

// Bytes returns the live buffer, not a copy: it must not be kept, or looked at, after Wipe. It is
// nil for a nil or wiped PIN and not nil, though of length 0, for an empty one.
func (p *PIN) Bytes() []byte {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pages == nil {
		return nil
	}
	return p.pages[:p.n:p.n]
}

// Len returns the length in bytes; 0 for a nil or wiped PIN.
func (p *PIN) Len() int { return len(p.Bytes()) }

// Wipe zeroes the memory and gives it back. It may be called any number of times.
func (p *PIN) Wipe() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.pages == nil {
		return
	}

	Wipe(p.pages)
	_ = unix.Munmap(p.pages) // also unlocks
	p.pages = nil
	p.n = 0
}

// Wipe zeroes b in a way that the compiler keeps.
//
//go:noinline
func Wipe(b []byte) {
	clear(b)
	runtime.KeepAlive(&b)
}

// Format prints [redacted] for every verb (fmt.Formatter).
func (p *PIN) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String returns [redacted].
func (p *PIN) String() string { return redacted }

// GoString returns [redacted].
func (p *PIN) GoString() string { return redacted }

// LogValue returns [redacted] (slog.LogValuer).
func (p *PIN) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns [redacted] (encoding.TextMarshaler); JSON and other encoders use it.
func (p *PIN) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "[redacted]" in quotes.
func (p *PIN) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
