package cache

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"pam_pkcs11/internal/iso7816"
)

// MaxPiece is the greatest length of a piece, in bytes.
const MaxPiece = 256

// MaxEntry is the greatest length of an entry's file, in bytes.
const MaxEntry = 32 << 10

// Entry is what is remembered with one certificate. Empty fields are not known. All are answers of
// the card without status words, where nothing else is said.
type Entry struct {
	Object      []byte // of the certificate, whole, with its tag 53; it begins with the piece
	APT         []byte // of SELECT
	Discovery   []byte // the content of the discovery object
	Metadata    []byte // of GET METADATA of the certificate's key
	PINMetadata []byte // of GET METADATA of the PIN
	Serial      string // of the card, as OpenSC shows it
	MostTries   int    // the highest number of tries left that the card has shown, 0 to 255
}

// magic begins each file. A file of another version of this format begins otherwise.
const magic = "pam_pkcs11 PIV cache 1\n"

// Tags of the fields of a file, which are BER-TLV data objects. The last one is the SHA-256 of all
// before it: files are not synced to the disk before a login ends, so that a power failure may
// leave one with holes.
const (
	tagObject uint32 = 0x81 + iota
	tagAPT
	tagDiscovery
	tagMetadata
	tagPINMetadata
	tagSerial
	tagMostTries
	tagHash
)

// errEntry is part of every error about the form of a file.
var errEntry = errors.New("no entry of the cache")

// check refuses what no file can hold, or what Get would not find.
func (e *Entry) check(piece []byte) error {
	switch {
	case len(piece) == 0 || len(piece) > MaxPiece:
		return fmt.Errorf("a piece of %d bytes", len(piece))
	case !bytes.HasPrefix(e.Object, piece):
		return errors.New("the object does not begin with the piece")
	case e.MostTries < 0 || e.MostTries > 0xFF:
		return fmt.Errorf("%d tries", e.MostTries)
	}
	return nil
}

// marshal writes the file of the entry.
func (e *Entry) marshal() ([]byte, error) {
	b := []byte(magic)

	// Fields without a value are left out: unmarshal accepts no empty one.
	for _, f := range e.fields() {
		if len(*f.value) > MaxEntry {
			return nil, fmt.Errorf("a field of %d bytes", len(*f.value))
		}
		if len(*f.value) > 0 {
			b = iso7816.AppendTLV(b, f.tag, *f.value)
		}
	}

	if e.Serial != "" {
		b = iso7816.AppendTLV(b, tagSerial, []byte(e.Serial))
	}
	if e.MostTries > 0 {
		b = iso7816.AppendTLV(b, tagMostTries, []byte{byte(e.MostTries)})
	}

	hash := sha256.Sum256(b)
	b = iso7816.AppendTLV(b, tagHash, hash[:])
	if len(b) > MaxEntry {
		return nil, fmt.Errorf("an entry of %d bytes, more than %d", len(b), MaxEntry)
	}
	return b, nil
}

// field is one field of octets.
type field struct {
	tag   uint32
	value *[]byte
}

// fields returns the fields that are octets, in the order of their tags.
func (e *Entry) fields() []field {
	return []field{
		{tagObject, &e.Object},
		{tagAPT, &e.APT},
		{tagDiscovery, &e.Discovery},
		{tagMetadata, &e.Metadata},
		{tagPINMetadata, &e.PINMetadata},
	}
}

// unmarshal reads a file. It takes only what marshal writes: fields in their order, each once, none
// of them empty, and nothing after the hash.
func unmarshal(file []byte) (*Entry, error) {
	rest, ok := bytes.CutPrefix(file, []byte(magic))
	if !ok || len(file) > MaxEntry {
		return nil, errEntry
	}

	e := &Entry{}
	for last := uint32(0); ; {
		before := file[:len(file)-len(rest)]
		tag, value, after, ok := iso7816.ReadTLV(rest)

		// Tags that only grow make each field unique, and the file of an entry the only one of it.
		if !ok || tag <= last || len(value) == 0 {
			return nil, fmt.Errorf("%w: fields", errEntry)
		}

		if tag == tagHash {
			hash := sha256.Sum256(before)
			if !bytes.Equal(value, hash[:]) || len(after) > 0 {
				return nil, fmt.Errorf("%w: hash", errEntry)
			}
			return e, nil
		}

		if err := e.take(tag, value); err != nil {
			return nil, err
		}

		last = tag
		rest = after
	}
}

// take sets one field.
func (e *Entry) take(tag uint32, value []byte) error {
	switch tag {
	case tagSerial:
		e.Serial = string(value)
		return nil
	case tagMostTries:
		if len(value) != 1 || value[0] == 0 {
			return fmt.Errorf("%w: tries", errEntry)
		}
		e.MostTries = int(value[0])
		return nil
	}

	for _, f := range e.fields() {
		if f.tag == tag {
			*f.value = value
			return nil
		}
	}
	return fmt.Errorf("%w: field %02X", errEntry, tag)
}
