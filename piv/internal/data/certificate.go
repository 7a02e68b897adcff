package data

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
)

// MaxCertificate is the greatest length of a certificate when it is inflated, in bytes.
const MaxCertificate = 16 << 10

// Tags of a certificate's container (part 1, appendix A, table 10 and following).
const (
	tagCertificate uint32 = 0x70
	tagCertInfo    uint32 = 0x71
)

// certInfoOther is the bit of CertInfo for certificates that are not of X.509 (part 1, appendix A,
// CertInfo).
const certInfoOther = 0x04

// Certificate returns the DER of the certificate in a container, which is what Object has returned.
//
// The parts may come in any order, CertInfo (71) may be missing, and unknown parts are ignored. The
// first bytes show whether the certificate is compressed, whatever CertInfo says: cards differ in
// the bit. present is false where there is no certificate in the container, or an empty one.
func Certificate(container []byte) (der []byte, present bool, err error) {
	var certificate, info []byte
	err = elements(container, func(tag uint32, value []byte) error {
		switch tag {
		case tagCertificate:
			return once(&certificate, tag, value)
		case tagCertInfo:
			return once(&info, tag, value)
		}
		return nil
	})
	if err != nil || len(certificate) == 0 {
		return nil, false, err
	}

	if len(info) > 0 && info[0]&certInfoOther != 0 {
		return nil, false, fmt.Errorf("%w: CertInfo %02X is not X.509", ErrObject, info[0])
	}

	der, err = inflated(certificate)
	if err != nil {
		return nil, false, err
	}

	// A certificate is a SEQUENCE (RFC 5280, 4.1): anything else is another format.
	if len(der) == 0 || der[0] != 0x30 {
		return nil, false, fmt.Errorf("%w: no certificate in DER", ErrObject)
	}
	return der, true, nil
}

// Beginnings of compressed certificates. Net iD's form is 01 00, the length of the certificate (two
// bytes, the low one first), and a zlib stream, which begins with 78 (RFC 1950, 2.2).
var (
	gzipMagic  = []byte{0x1F, 0x8B}
	netIDMagic = []byte{0x01, 0x00}
)

// netIDHeader is the length of netIDMagic and of the length behind it.
const netIDHeader = 4

// inflated returns the certificate without compression.
func inflated(certificate []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(certificate, gzipMagic):
		return gunzip(certificate)
	case bytes.HasPrefix(certificate, netIDMagic) && len(certificate) > netIDHeader:
		return fromNetID(certificate)
	}

	// The length of a compressed one is bounded where it is inflated.
	if len(certificate) > MaxCertificate {
		return nil, fmt.Errorf("%w: a certificate of %d bytes", ErrObject, len(certificate))
	}
	return certificate, nil
}

// gunzip inflates one member of gzip (RFC 1952) that ends where b ends.
func gunzip(b []byte) ([]byte, error) {
	source := bytes.NewReader(b)
	z, err := gzip.NewReader(source)
	if err != nil {
		return nil, fmt.Errorf("%w: gzip: %w", ErrObject, err)
	}

	// A second member would be ignored, or inflated in its place: neither is a certificate.
	z.Multistream(false)
	return inflate(z, source)
}

// fromNetID inflates the form of Net iD's middleware.
func fromNetID(b []byte) ([]byte, error) {
	source := bytes.NewReader(b[netIDHeader:])

	z, err := zlib.NewReader(source)
	if err != nil {
		return nil, fmt.Errorf("%w: zlib: %w", ErrObject, err)
	}

	der, err := inflate(z, source)
	if err != nil {
		return nil, err
	}

	// The header has the length: another one shows a damaged object.
	if told := binary.LittleEndian.Uint16(b[len(netIDMagic):]); len(der) != int(told) {
		return nil, fmt.Errorf("%w: %d bytes inflated, and %d told", ErrObject, len(der), told)
	}
	return der, nil
}

// inflate reads a stream to its end, which must be the end of its source. The readers of package
// compress read no byte too many from a source that has ReadByte.
func inflate(z io.Reader, source *bytes.Reader) ([]byte, error) {
	// A few bytes can inflate to gigabytes: reading ends at the limit.
	der, err := io.ReadAll(io.LimitReader(z, MaxCertificate+1))
	if err != nil {
		return nil, fmt.Errorf("%w: inflating: %w", ErrObject, err)
	}

	if len(der) > MaxCertificate {
		return nil, fmt.Errorf("%w: more than %d bytes inflated", ErrObject, MaxCertificate)
	}

	if source.Len() > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the compressed certificate", ErrObject, source.Len())
	}
	return der, nil
}
