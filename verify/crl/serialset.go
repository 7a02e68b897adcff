package crl

import (
	"maps"
	"sync"

	"pam_pkcs11/internal/certinfo"
)

// maxSerialOctets is the longest serial number that certinfo reads.
const maxSerialOctets = 64

// SerialSet is the serial numbers to look for in a pass over a CRL. It does not change once a pass
// uses it.
type SerialSet struct {
	bits    [1 << 10]uint64 // by the last two octets: nearly every entry of a CRL ends here
	serials map[string]bool
}

// mayContain is false only where the number is certainly not in the set (by its last two octets).
func (s *SerialSet) mayContain(serial []byte) bool {
	if s == nil {
		return false
	}
	h := shortHash(serial)
	return s.bits[h>>6]&(1<<(h&63)) != 0
}

// Contains reports whether the number is in the set.
func (s *SerialSet) Contains(serial []byte) bool { return s != nil && s.serials[string(serial)] }

// shortHash is the place of a number in the bits. The last octets of serial numbers are spread
// best.
func shortHash(serial []byte) uint16 {
	h := uint16(serial[len(serial)-1])
	if len(serial) > 1 {
		h |= uint16(serial[len(serial)-2]) << 8
	}
	return h
}

// with returns a set that has one number more.
func (s *SerialSet) with(serial []byte) *SerialSet {
	// A pass may be using the set that is there: it is copied, not changed.
	next := &SerialSet{serials: map[string]bool{}}
	if s != nil {
		next.bits, next.serials = s.bits, maps.Clone(s.serials)
	}
	next.put(serial)

	return next
}

func (s *SerialSet) put(serial []byte) {
	h := shortHash(serial)
	s.bits[h>>6] |= 1 << (h & 63)
	s.serials[string(serial)] = true
}

// Wanted collects the serial numbers of the known certificates, so that one pass over a CRL answers
// for all of them. It may be used by several goroutines at once.
type Wanted struct {
	mu      sync.Mutex // guards current
	current *SerialSet
}

// Add makes sure that the numbers are in the set of the next pass.
func (w *Wanted) Add(certs ...*certinfo.Certificate) {
	w.mu.Lock()
	defer w.mu.Unlock()

	fresh := false
	for _, c := range certs {
		switch {
		case c == nil || len(c.SerialBytes) == 0 || w.current.Contains(c.SerialBytes):
		// The first new number copies the set, which a pass may be using; the others go into it.
		case !fresh:
			fresh = true
			w.current = w.current.with(c.SerialBytes)
		default:
			w.current.put(c.SerialBytes)
		}
	}
}

// Set is what the next pass looks for.
func (w *Wanted) Set() *SerialSet {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current
}
