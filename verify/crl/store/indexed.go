package store

import (
	"io"
	"log/slog"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/crl"
)

// minIndexed is the size in octets from which an index is made and looked for: a smaller CRL is
// read as quickly.
const minIndexed = 32 << 10

// indexedList is a CRL in a file: looked up in its index, or in one pass when there is none.
type indexedList struct {
	crl.Stream
	path   string
	id     crl.FileID
	part   crl.Part
	index  *crl.Index // nil: none
	signer *certinfo.Certificate
	key    any // of signer
	logger *slog.Logger
}

// prepare reads what stands around the entries.
func (c *indexedList) prepare(f io.ReaderAt, store *store, logger *slog.Logger) error {
	c.logger = logger
	if c.part.Size >= minIndexed {
		x, err := store.index(c.id, c.part.At)
		if err != nil {
			logger.Warn("index of a CRL not used: the list itself is read", "file", c.path, "problem", err)
		}
		if c.index = x; x != nil {
			c.Begin(x.Head())
			return nil
		}
	}

	h, err := c.part.Peek(f)
	// Lines of different lengths have to be read from the beginning: the pass is made now.
	if err == crl.ErrNoPeek {
		_, err = c.Pass(nil)
		return err
	}
	c.Begin(h)
	return err
}

// SignedBy remembers the signer, whose key is needed again when the index turns out to be damaged.
func (c *indexedList) SignedBy(signer *certinfo.Certificate, key any) error {
	if c.index == nil {
		return c.Stream.SignedBy(signer, key)
	}
	err := c.index.SignedBy(signer, key)
	if err == nil {
		c.signer, c.key = signer, key
	}
	return err
}

// Lookup falls back to the CRL when its index is damaged; the signature must be good then too.
func (c *indexedList) Lookup(issuer certinfo.Name, serial []byte) (crl.Entry, bool, error) {
	if c.index == nil {
		return c.Stream.Lookup(issuer, serial)
	}

	entry, found, err := c.index.Lookup(issuer, serial)
	if err == nil {
		return entry, found, nil
	}

	c.logger.Warn("index of a CRL is damaged: the list itself is read", "file", c.path, "problem", err)
	// The index was trusted for the signature; without it the list
	// itself has to be signed by the same key.
	if err := c.Stream.SignedBy(c.signer, c.key); err != nil {
		return crl.Entry{}, false, err
	}
	// What was decided by the head of the index has to hold for the list too.
	if h := c.Head(); !crl.SameHead(h, c.index.Head()) || h.UnknownCritical != c.index.Head().UnknownCritical {
		return crl.Entry{}, false, crl.ErrIndex
	}
	return c.Stream.Lookup(issuer, serial)
}
