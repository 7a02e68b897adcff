package ocsp

import (
	"bytes"
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
)

// Reading an OCSP answer. Only the form is looked at here; accept.go decides whether it is
// accepted.

// parseAnswer reads one DER OCSPResponse and nothing after it. A status other than successful is a
// statusError.
func parseAnswer(der []byte) (*answer, error) {
	a, err := readResponse(der)
	if err != nil {
		return nil, fmt.Errorf("OCSP answer: %w", err)
	}
	return a, nil
}

// readResponse reads the outer parts of an answer (RFC 6960, 4.2.1).
func readResponse(der []byte) (*answer, error) {
	if len(der) > maxAnswer {
		return nil, fmt.Errorf("larger than %d octets", maxAnswer)
	}

	// The answer is kept as it came: what is read from it points into this copy.
	a := &answer{raw: bytes.Clone(der)}
	input := cryptobyte.String(a.raw)

	var outer, explicit, content, basic cryptobyte.String
	var present bool
	status := 0
	begins := input.ReadASN1(&outer, asn1.SEQUENCE) && input.Empty() && outer.ReadASN1Enum(&status)
	responseBytes := asn1.Tag(0).ContextSpecific().Constructed()
	if !begins || !outer.ReadOptionalASN1(&explicit, &present, responseBytes) || !outer.Empty() {
		return nil, errors.New("not an OCSPResponse")
	}
	// An error has no response, and no signature either.
	if status != 0 {
		return nil, statusError(status)
	}
	if !present || !explicit.ReadASN1(&content, asn1.SEQUENCE) || !explicit.Empty() {
		return nil, errors.New("successful, but without a response")
	}

	var kind stdasn1.ObjectIdentifier
	if !content.ReadASN1ObjectIdentifier(&kind) || !content.ReadASN1(&basic, asn1.OCTET_STRING) || !content.Empty() {
		return nil, errors.New("malformed ResponseBytes")
	}
	if kind.String() != oidBasic {
		return nil, fmt.Errorf("of type %v, which is not known", kind)
	}
	return a, a.readBasic(basic)
}

// readBasic reads a BasicOCSPResponse, whose signature is over the octets of tbs.
func (a *answer) readBasic(basic cryptobyte.String) error {
	var seq, tbs, algorithm, explicit, certs cryptobyte.String
	var hasCerts bool
	malformed := errors.New("malformed BasicOCSPResponse")
	if !basic.ReadASN1(&seq, asn1.SEQUENCE) || !basic.Empty() {
		return malformed
	}

	signed := seq.ReadASN1Element(&tbs, asn1.SEQUENCE) && seq.ReadASN1Element(&algorithm, asn1.SEQUENCE) &&
		seq.ReadASN1BitStringAsBytes(&a.signature)
	certsTag := asn1.Tag(0).ContextSpecific().Constructed()
	if !signed || !seq.ReadOptionalASN1(&explicit, &hasCerts, certsTag) || !seq.Empty() {
		return malformed
	}

	a.tbs = tbs
	var err error
	if a.algorithm, err = certinfo.ParseAlgorithmIdentifier(algorithm); err != nil {
		return err
	}

	if hasCerts && (!explicit.ReadASN1(&certs, asn1.SEQUENCE) || !explicit.Empty()) {
		return errors.New("malformed list of certificates")
	}
	for n := 0; !certs.Empty(); n++ {
		var der cryptobyte.String
		if !certs.ReadASN1Element(&der, asn1.SEQUENCE) || n == maxCerts {
			return errors.New("malformed certificate, or too many")
		}
		// They are hints: one that cannot be read is none that can be used.
		if c, err := certinfo.Parse(der); err == nil {
			a.certs = append(a.certs, c)
		}
	}

	return a.readData(tbs)
}

// readData reads ResponseData.
func (a *answer) readData(element cryptobyte.String) error {
	var data, version, responses, explicit cryptobyte.String
	var hasVersion, hasExtensions bool
	malformed := errors.New("malformed ResponseData")
	if !element.ReadASN1(&data, asn1.SEQUENCE) ||
		!data.ReadOptionalASN1(&version, &hasVersion, asn1.Tag(0).ContextSpecific().Constructed()) {
		return malformed
	}

	// DER leaves the default version out; some responders write it all the same, which changes
	// nothing.
	if hasVersion {
		n := 0
		if !version.ReadASN1Integer(&n) || !version.Empty() || n != 0 {
			return errors.New("unknown version")
		}
	}

	if err := a.readResponder(&data); err != nil {
		return err
	}

	var err error
	if a.producedAt, err = readGeneralizedTime(&data); err != nil {
		return fmt.Errorf("producedAt: %w", err)
	}

	if !data.ReadASN1(&responses, asn1.SEQUENCE) ||
		!data.ReadOptionalASN1(&explicit, &hasExtensions, asn1.Tag(1).ContextSpecific().Constructed()) || !data.Empty() {
		return malformed
	}

	for !responses.Empty() {
		if len(a.singles) == maxSingles {
			return errors.New("speaks of too many certificates")
		}
		single, err := readSingle(&responses)
		if err != nil {
			return err
		}
		a.singles = append(a.singles, single)
	}

	if !hasExtensions {
		return nil
	}
	return a.readExtensions(explicit)
}

// readResponder reads the responderID, which names the signer or is a hash of its key.
func (a *answer) readResponder(data *cryptobyte.String) error {
	var content cryptobyte.String
	var tag asn1.Tag
	if !data.ReadAnyASN1(&content, &tag) {
		return errors.New("no responderID")
	}

	var err error
	switch tag {
	case asn1.Tag(1).ContextSpecific().Constructed():
		a.responderName, err = certinfo.ParseName(content)
		if err == nil && len(a.responderName) == 0 {
			err = errors.New("empty name")
		}
	case asn1.Tag(2).ContextSpecific().Constructed():
		// The hash is always SHA-1 (RFC 6960, 4.2.1): it only finds the certificate.
		if !content.ReadASN1Bytes(&a.responderKey, asn1.OCTET_STRING) || !content.Empty() || len(a.responderKey) != 20 {
			err = errors.New("not a SHA-1 hash")
		}
	default:
		err = errors.New("neither by name nor by key")
	}

	if err != nil {
		return fmt.Errorf("responderID: %w", err)
	}
	return nil
}

// readGeneralizedTime reads a time in the one form that OCSP has.
func readGeneralizedTime(s *cryptobyte.String) (time.Time, error) {
	if !s.PeekASN1Tag(asn1.GeneralizedTime) {
		return time.Time{}, errors.New("not a GeneralizedTime")
	}
	return certinfo.ReadTime(s)
}

// readSingle reads a SingleResponse (RFC 6960, 4.2.1).
func readSingle(list *cryptobyte.String) (s single, err error) {
	var seq cryptobyte.String
	if !list.ReadASN1(&seq, asn1.SEQUENCE) {
		return s, errors.New("malformed SingleResponse")
	}

	if s.id, err = readCertID(&seq); err != nil {
		return s, err
	}
	if err := s.readStatus(&seq); err != nil {
		return s, err
	}
	if s.thisUpdate, err = readGeneralizedTime(&seq); err != nil {
		return s, fmt.Errorf("thisUpdate: %w", err)
	}

	var next, explicit cryptobyte.String
	var hasNext, hasExtensions bool
	if !seq.ReadOptionalASN1(&next, &hasNext, asn1.Tag(0).ContextSpecific().Constructed()) ||
		!seq.ReadOptionalASN1(&explicit, &hasExtensions, asn1.Tag(1).ContextSpecific().Constructed()) || !seq.Empty() {
		return s, errors.New("malformed SingleResponse")
	}

	if hasNext {
		if s.nextUpdate, err = readGeneralizedTime(&next); err != nil || !next.Empty() {
			return s, errors.New("malformed nextUpdate")
		}
	}
	// Extensions of CRL entries may be here too (RFC 6960, 4.4.5).
	if hasExtensions {
		s.unknownCritical, err = firstUnknownCritical(explicit,
			oidCRLReference, oidArchiveCutoff, certinfo.OIDReasonCode.String(), certinfo.OIDInvalidityDate.String())
	}
	return s, err
}

// readStatus reads a CertStatus. Its tag is the status.
func (s *single) readStatus(seq *cryptobyte.String) error {
	var content cryptobyte.String
	var tag asn1.Tag
	s.reason = certinfo.CRLReasonAbsent
	malformed := errors.New("malformed certStatus")
	if !seq.ReadAnyASN1(&content, &tag) {
		return malformed
	}

	switch tag {
	case asn1.Tag(statusGood).ContextSpecific(), asn1.Tag(statusUnknown).ContextSpecific():
		if !content.Empty() {
			return malformed
		}
		s.status = certStatus(tag & 3)
		return nil
	case asn1.Tag(statusRevoked).ContextSpecific().Constructed():
		s.status = statusRevoked
	default:
		return malformed
	}

	var err error
	if s.revokedAt, err = readGeneralizedTime(&content); err != nil {
		return fmt.Errorf("revocationTime: %w", err)
	}

	var reason cryptobyte.String
	var present bool
	if !content.ReadOptionalASN1(&reason, &present, asn1.Tag(0).ContextSpecific().Constructed()) || !content.Empty() {
		return malformed
	}
	// Whatever the reason is, and be it one that cannot be read: the certificate is revoked.
	if present {
		s.reason = certinfo.ReadCRLReason(reason)
	}
	return nil
}

// readExtensions reads responseExtensions.
func (a *answer) readExtensions(der cryptobyte.String) error {
	list, err := certinfo.ParseExtensions(der)
	if err != nil {
		return err
	}

	for _, e := range list {
		if e.String() == oidNonce {
			a.nonce = e.Value
		}
	}

	a.unknownCritical, err = firstUnknownCritical(der, oidNonce, oidExtendedRevoke)
	return err
}

// firstUnknownCritical names a critical extension that is not in the list, "" when there is none.
func firstUnknownCritical(der []byte, known ...string) (string, error) {
	list, err := certinfo.ParseExtensions(der)
	if err != nil {
		return "", err
	}
	for _, e := range list {
		if e.Critical && !slices.Contains(known, e.String()) {
			return e.String(), nil
		}
	}
	return "", nil
}
