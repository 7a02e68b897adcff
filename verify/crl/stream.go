package crl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/sig"
)

// Stream is a CRL that is read once, from its beginning to its end, when the first certificate
// needs it.
type Stream struct {
	Open   func() (io.ReadCloser, int64, error) // the DER, and its length or -1
	Wanted *Wanted

	mu   sync.Mutex // guards the fields below
	h    *Head      // as read from both ends, later as seen in the pass
	scan *Scan
	err  error
}

// Begin takes what was read from both ends of the CRL.
func (c *Stream) Begin(h *Head) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.h = h
}

// Scanned reports whether the pass was made.
func (c *Stream) Scanned() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scan != nil
}

// NewScanned is a CRL that was read already and cannot be read again; why is the error for a
// certificate that was not looked for.
func NewScanned(w *Wanted, scan *Scan, why error) *Stream {
	return &Stream{
		Wanted: w,
		Open:   func() (io.ReadCloser, int64, error) { return nil, 0, why },
		h:      &scan.Head,
		scan:   scan,
	}
}

// Head gives what is known of the CRL so far, nil when nothing is.
func (c *Stream) Head() *Head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h
}

// Pass makes the pass, unless it was made and looked for this number.
func (c *Stream) Pass(serial []byte) (*Scan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	looked := c.scan != nil && (serial == nil || c.scan.Asked.Contains(serial))
	if c.err != nil || looked {
		return c.scan, c.err
	}

	in, size, err := c.Open()
	if err != nil {
		c.err = err
		return nil, c.err
	}
	defer in.Close()
	// Looking for all numbers that are wanted makes a second pass unlikely.
	asked := c.Wanted.Set()
	if serial != nil && !asked.Contains(serial) {
		asked = asked.with(serial)
	}

	scan, err := ScanDER(in, size, asked, nil)
	// The file may have been written to since: what was checked before no longer holds for it.
	if err == nil && !c.unchanged(scan) {
		err = ErrChanged
	}
	if err != nil {
		c.err = err
		return nil, c.err
	}

	c.scan = scan
	c.h = &scan.Head
	return scan, nil
}

// unchanged reports whether a pass saw the CRL that earlier reads saw.
func (c *Stream) unchanged(scan *Scan) bool {
	if c.h != nil && !SameHead(c.h, &scan.Head) {
		return false
	}
	return c.scan == nil || sameList(c.scan, scan)
}

// Lookup makes the pass unless it was made.
func (c *Stream) Lookup(issuer certinfo.Name, serial []byte) (Entry, bool, error) {
	scan, err := c.Pass(serial)
	if err != nil {
		return Entry{}, false, err
	}
	e, ok := scan.found[entryKey(issuer.Key(), serial)]
	return e, ok, nil
}

// SignedBy makes the pass unless it was made.
func (c *Stream) SignedBy(_ *certinfo.Certificate, key any) error {
	scan, err := c.Pass(nil)
	if err != nil {
		return err
	}
	return scan.SignedBy(key)
}

// SignedBy checks the signature of what was read.
func (s *Scan) SignedBy(key any) error {
	scheme, err := s.Algorithm.Scheme()
	if err != nil {
		return err
	}
	if s.digest == nil {
		return fmt.Errorf("%w: no such hash", sig.ErrKeyType)
	}
	return sig.CheckDigest(key, scheme, s.digest, s.signature)
}

// ErrChanged is the error of a CRL whose octets are not those that were read before.
var ErrChanged = errors.New("has changed while it was read")

// sameList reports whether two passes saw the same octets: the signature was perhaps checked after
// the first only, and a file may be written to in place while it is open.
func sameList(a, b *Scan) bool {
	return bytes.Equal(a.digest, b.digest) && bytes.Equal(a.signature, b.signature)
}

// SameHead reports whether two readings saw the same CRL. What an entry forbids is seen in the pass
// only.
func SameHead(a, b *Head) bool {
	return bytes.Equal(a.rawAlgorithm, b.rawAlgorithm) && bytes.Equal(a.RawIssuer, b.RawIssuer) && a.ThisUpdate.Equal(b.ThisUpdate) && a.NextUpdate.Equal(b.NextUpdate) &&
		sameNumber(a.Number, b.Number) && sameNumber(a.DeltaBase, b.DeltaBase) && bytes.Equal(a.RawPoint, b.RawPoint) &&
		bytes.Equal(a.authorityKeyID, b.authorityKeyID)
}

func sameNumber(a, b *big.Int) bool { return (a == nil) == (b == nil) && (a == nil || a.Cmp(b) == 0) }

// Memory holds CRLs in memory.
type Memory []List

// NewMemory takes DER CRLs; the ones whose head does not parse are named in the error, the others
// are kept.
func NewMemory(ders ...[]byte) (Memory, error) {
	var source Memory
	var errs []error
	for _, der := range ders {
		c := &Stream{Wanted: &Wanted{}}
		c.Open = func() (io.ReadCloser, int64, error) {
			return io.NopCloser(bytes.NewReader(der)), int64(len(der)), nil
		}
		// The pass at once shows whether it parses; its head is needed to find it.
		if _, err := c.Pass(nil); err != nil {
			errs = append(errs, err)
			continue
		}
		source = append(source, c)
	}

	return source, errors.Join(errs...)
}

// Lists gives those that may cover the certificate.
func (m Memory) Lists(_ context.Context, q *Query) ([]List, error) {
	var found []List
	for _, l := range m {
		if MayCover(l.Head(), q.Cert, q.Point) {
			found = append(found, l)
		}
	}

	return found, nil
}

// MayCover reports whether a CRL is of the certificate's issuer or of one that the distribution
// point names.
func MayCover(h *Head, cert *certinfo.Certificate, point *certinfo.DistributionPoint) bool {
	return h.Issuer.Equal(cert.Issuer) || hasDirectoryName(point.CRLIssuer, h.Issuer)
}
