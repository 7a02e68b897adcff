package certinfo

import (
	stdasn1 "encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// AlgorithmIdentifier is the one of RFC 5280, 4.1.1.2.
type AlgorithmIdentifier struct {
	OID        stdasn1.ObjectIdentifier
	Parameters []byte // DER of the parameters with tag and length; nil when absent
}

// ParseAlgorithmIdentifier reads the DER of an AlgorithmIdentifier and nothing after it.
func ParseAlgorithmIdentifier(der []byte) (AlgorithmIdentifier, error) {
	s := cryptobyte.String(der)
	a, err := readAlgorithm(&s)
	if err == nil && !s.Empty() {
		err = errTrailing
	}
	return a, err
}

// readAlgorithm reads an AlgorithmIdentifier. Its parameters are kept as DER for whoever knows the
// algorithm.
func readAlgorithm(s *cryptobyte.String) (AlgorithmIdentifier, error) {
	var seq, parameters cryptobyte.String
	var tag asn1.Tag
	var a AlgorithmIdentifier
	if !s.ReadASN1(&seq, asn1.SEQUENCE) {
		return a, errors.New("malformed algorithm identifier")
	}

	oid, _, ok := readOID(&seq)
	if !ok || oid == nil {
		return a, errors.New("algorithm identifier without an object identifier that can be held")
	}

	a.OID = oid
	if !seq.Empty() {
		if !seq.ReadAnyASN1Element(&parameters, &tag) || !seq.Empty() {
			return a, errors.New("malformed algorithm parameters")
		}
		a.Parameters = parameters
	}
	return a, nil
}

// absentOrNull reports whether there are no parameters, or the NULL that RSA's must be.
func (a AlgorithmIdentifier) absentOrNull() bool {
	return len(a.Parameters) == 0 || string(a.Parameters) == "\x05\x00"
}
