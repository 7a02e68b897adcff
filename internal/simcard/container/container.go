// Package container packs certificates as the data objects of PIV cards hold them (NIST SP
// 800-73-4, part 1, table 10 and following), in the usual form and in those that cards and programs
// made of it.
package container

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"

	"pam_pkcs11/internal/iso7816"
)

// Compression is how a certificate is packed in its object.
type Compression int

// Forms of a certificate. Gzip is that of the specification (part 1, appendix A.1); NetID is what
// the program Net iD writes, 01 00, the length of the DER in two bytes, the lowest first, and a
// zlib stream.
const (
	Uncompressed Compression = iota
	Gzip
	NetID
)

// Form is the form of a certificate's object (part 1, table 10 and following). The zero value is
// 70, 71 with 00, FE.
type Form struct {
	Compression Compression

	// Info is the value of 71 in place of what Compression asks for, 00 or 01. Cards lie here.
	Info *byte

	NoInfo    bool // 71 is missing
	NoEnd     bool // FE is missing
	InfoFirst bool // 71 stands before 70
	MSCUID    bool // 72 is there, of 38 bytes, as old cards have it
	EndData   bool // FE is not empty, but has two bytes
}

// infoGzip is the bit of CertInfo that says gzip.
const infoGzip = 0x01

// Object makes the content of a certificate's object, what stands within tag 53.
func (k Form) Object(der []byte) ([]byte, error) {
	value, info, err := k.pack(der)
	if err != nil {
		return nil, err
	}

	if k.Info != nil {
		info = *k.Info
	}

	tlv := iso7816.AppendTLV
	parts := [][]byte{tlv(nil, 0x70, value)}
	if !k.NoInfo {
		parts = append(parts, tlv(nil, 0x71, []byte{info}))
	}
	if k.InfoFirst && len(parts) == 2 {
		parts[0], parts[1] = parts[1], parts[0]
	}
	if k.MSCUID {
		parts = append(parts, tlv(nil, 0x72, make([]byte, 38)))
	}

	switch {
	case k.NoEnd:
	case k.EndData:
		parts = append(parts, tlv(nil, 0xFE, []byte{0, 0}))
	default:
		parts = append(parts, tlv(nil, 0xFE))
	}

	return bytes.Join(parts, nil), nil
}

// pack compresses the certificate, and returns the CertInfo that goes with it.
func (k Form) pack(der []byte) (value []byte, info byte, err error) {
	var packed bytes.Buffer
	var w io.WriteCloser

	switch k.Compression {
	case Uncompressed:
		return der, 0, nil
	case Gzip:
		w = gzip.NewWriter(&packed)
	case NetID:
		packed.Write(binary.LittleEndian.AppendUint16([]byte{1, 0}, uint16(len(der))))
		w = zlib.NewWriter(&packed)
	default:
		return nil, 0, fmt.Errorf("no compression %d", k.Compression)
	}

	if _, err := w.Write(der); err != nil {
		return nil, 0, err
	}
	// Without Close the end of the stream, with its checksum, is missing.
	if err := w.Close(); err != nil {
		return nil, 0, err
	}

	return packed.Bytes(), infoGzip, nil
}
