package verify

import (
	"io"
	"log/slog"

	"pam_pkcs11/internal/certinfo"
)

// minIndexed is the size in octets from which an index is made and looked for: a smaller CRL is read as quickly.
const minIndexed = 32 << 10

// crlInFile is a CRL in a file: answered from its index, or from one pass when there is none.
type crlInFile struct {
	crlStream
	path   string
	id     fileID
	part   crlPart
	index  *crlIndex // nil: none
	signer *certinfo.Certificate
	key    any // of signer
	logger *slog.Logger
}

// prepare finds out what stands around the entries.
func (c *crlInFile) prepare(f io.ReaderAt, store *crlStore, logger *slog.Logger) error {
	c.logger = logger
	if c.part.size >= minIndexed {
		x, err := store.index(c.id, c.part.at)
		if err != nil {
			logger.Warn("index of a CRL not used: the list itself is read", "file", c.path, "problem", err)
		}
		if c.index = x; x != nil {
			c.h = x.head()
			return nil
		}
	}
	var err error
	if c.h, err = c.part.peek(f); err == errNoPeek {
		_, err = c.read(nil)
	}
	return err
}

func (c *crlInFile) signedBy(signer *certinfo.Certificate, key any) error {
	if c.index == nil {
		return c.crlStream.signedBy(signer, key)
	}
	err := c.index.signedBy(signer, key)
	if err == nil {
		c.signer, c.key = signer, key
	}
	return err
}

// lookup falls back to the CRL when its index is damaged; the signature must be good then too.
func (c *crlInFile) lookup(issuer certinfo.Name, serial []byte) (crlEntry, bool, error) {
	if c.index == nil {
		return c.crlStream.lookup(issuer, serial)
	}
	entry, found, err := c.index.lookup(issuer, serial)
	if err == nil {
		return entry, found, nil
	}
	c.logger.Warn("index of a CRL is damaged: the list itself is read", "file", c.path, "problem", err)
	if err := c.crlStream.signedBy(c.signer, c.key); err != nil {
		return crlEntry{}, false, err
	}
	if h := c.head(); !sameHead(h, c.index.head()) || h.unknownCritical != c.index.head().unknownCritical {
		return crlEntry{}, false, errIndex
	}
	return c.crlStream.lookup(issuer, serial)
}
