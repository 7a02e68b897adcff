package verify

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

// crlStream is a CRL that is read once, from its beginning to its end, when the first certificate needs it.
type crlStream struct {
	open   func() (io.ReadCloser, int64, error) // the DER, and its length or -1
	wanted *wanted

	mu   sync.Mutex
	h    *crlHead // as read from both ends, later as seen in the pass
	scan *crlScan
	err  error
}

func (c *crlStream) head() *crlHead {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.h
}

// read makes the pass, unless it was made and looked for this number.
func (c *crlStream) read(serial []byte) (*crlScan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.scan != nil && (serial == nil || c.scan.asked.has(serial)) {
		return c.scan, c.err
	}
	in, size, err := c.open()
	if err != nil {
		c.err = err
		return nil, c.err
	}
	defer in.Close()
	asked := c.wanted.set()
	if serial != nil && !asked.has(serial) {
		asked = asked.with(serial)
	}
	scan, err := scanCRL(in, size, asked, nil)
	if err == nil && (c.h != nil && !sameHead(c.h, &scan.crlHead) || c.scan != nil && !sameList(c.scan, scan)) {
		err = errCRLChanged
	}
	if err != nil {
		c.err = err
		return nil, c.err
	}
	c.scan, c.h = scan, &scan.crlHead
	return scan, nil
}

func (c *crlStream) lookup(issuer certinfo.Name, serial []byte) (crlEntry, bool, error) {
	scan, err := c.read(serial)
	if err != nil {
		return crlEntry{}, false, err
	}
	e, ok := scan.found[entryKey(issuer.Key(), serial)]
	return e, ok, nil
}

func (c *crlStream) signedBy(_ *certinfo.Certificate, key any) error {
	scan, err := c.read(nil)
	if err != nil {
		return err
	}
	return scan.signedBy(key)
}

// signedBy checks the signature of what was read.
func (s *crlScan) signedBy(key any) error {
	scheme, err := s.algorithm.Scheme()
	if err != nil {
		return err
	}
	if s.digest == nil {
		return fmt.Errorf("%w: no such hash", sig.ErrKeyType)
	}
	return sig.CheckDigest(key, scheme, s.digest, s.signature)
}

var errCRLChanged = errors.New("has changed while it was read")

// sameList tells whether two passes saw the same octets: the signature was perhaps checked after the first only, and a
// file may be written to in place while it is open.
func sameList(a, b *crlScan) bool {
	return bytes.Equal(a.digest, b.digest) && bytes.Equal(a.signature, b.signature)
}

// sameHead tells whether two readings saw the same CRL. What an entry forbids is seen in the pass only.
func sameHead(a, b *crlHead) bool {
	return bytes.Equal(a.rawAlgorithm, b.rawAlgorithm) && bytes.Equal(a.rawIssuer, b.rawIssuer) && a.thisUpdate.Equal(b.thisUpdate) && a.nextUpdate.Equal(b.nextUpdate) &&
		sameNumber(a.number, b.number) && sameNumber(a.deltaBase, b.deltaBase) && bytes.Equal(a.rawPoint, b.rawPoint) &&
		bytes.Equal(a.authorityKeyID, b.authorityKeyID)
}

func sameNumber(a, b *big.Int) bool { return (a == nil) == (b == nil) && (a == nil || a.Cmp(b) == 0) }

// memorySource holds CRLs in memory.
type memorySource []crlList

// newMemorySource takes DER CRLs; the ones whose head does not parse are named in the error, the others are kept.
func newMemorySource(ders ...[]byte) (memorySource, error) {
	var source memorySource
	var errs []error
	for _, der := range ders {
		c := &crlStream{wanted: &wanted{}}
		c.open = func() (io.ReadCloser, int64, error) { return io.NopCloser(bytes.NewReader(der)), int64(len(der)), nil }
		if _, err := c.read(nil); err != nil {
			errs = append(errs, err)
			continue
		}
		source = append(source, c)
	}
	return source, errors.Join(errs...)
}

func (m memorySource) lists(_ context.Context, q *crlQuery) ([]crlList, error) {
	var found []crlList
	for _, l := range m {
		if speaksOf(l.head(), q.cert, q.point) {
			found = append(found, l)
		}
	}
	return found, nil
}

// speaksOf tells whether a CRL is of the certificate's issuer or of one that the distribution point names.
func speaksOf(h *crlHead, cert *certinfo.Certificate, point *certinfo.DistributionPoint) bool {
	return h.issuer.Equal(cert.Issuer) || hasDirectoryName(point.CRLIssuer, h.issuer)
}
