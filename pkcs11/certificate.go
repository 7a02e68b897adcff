package pkcs11

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/token"
)

// Limits on what is read from a token. The value's is that of certinfo.Parse.
const (
	maxCertificates = 64
	roomID          = 1024
	roomLabel       = 1024
	roomValue       = 64 << 10
)

// Object is a certificate object on a token. Its Handle is that of PKCS#11.
type Object = token.Object

// Certificates lists the X.509 certificates that the token shows now, in its order, at most 64 of
// them. It takes three calls and one for each certificate. The error is of the whole list.
func (s *Session) Certificates() ([]Object, error) {
	var list []Object
	for o, err := range s.eachCertificate() {
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	return list, nil
}

// eachCertificate is Certificates, with each one read when it is asked for. An error ends it.
func (s *Session) eachCertificate() iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		template := []attribute{{ckaClass, uint(ckoCertificate)}, {ckaCertificateType, uint(ckcX509)}}
		handles, more, err := s.find(template, maxCertificates)
		// Nothing is known of the certificates then: that is another thing than an empty card.
		if err != nil {
			yield(Object{}, fmt.Errorf("listing certificates: %w", err))
			return
		}
		if more {
			s.module.log.Warn("more certificates on the token than are looked at", "slot", s.slot, "limit", maxCertificates)
		}

		for _, h := range handles {
			o, err := s.certificate(h)
			if err != nil {
				yield(Object{}, fmt.Errorf("reading certificate %d: %w", h, err))
				return
			}
			if !yield(o, nil) {
				return
			}
		}
	}
}

// certificate reads one object.
func (s *Session) certificate(handle uint) (Object, error) {
	o := Object{Handle: handle}
	values, err := s.read(handle, []wanted{{ckaID, roomID}, {ckaLabel, roomLabel}, {ckaValue, roomValue}})
	if err != nil {
		return o, err
	}

	// Copies, so that the block does not live as long as the certificate.
	o.ID, o.Label = bytes.Clone(values[0].bytes), token.Printable(string(values[1].bytes))

	switch der := values[2]; {
	case der.err != nil:
		o.Err = der.err
	case len(der.bytes) == 0:
		o.Err = errors.New("CKA_VALUE is empty")
	default:
		// Cards with files of a fixed size give what stands behind the certificate, too.
		// A certificate that is none is kept as octets, for tools that show what is on the card.
		if o.Cert, o.Err = certinfo.ParsePadded(der.bytes); o.Err != nil {
			o.Value = bytes.Clone(der.bytes)
			break
		}
		if cut := len(der.bytes) - len(o.Cert.Raw); cut > 0 {
			s.module.log.Info("certificate object is longer than the certificate in it: the rest is cut off",
				"slot", s.slot, "label", o.Label, "octets", cut)
		}
	}

	return o, nil
}
