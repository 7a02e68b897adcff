package path

import (
	stdasn1 "encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// PKCS#7 as a bag of certificates (RFC 2315, 9.1; RFC 5652, 5.1): a SignedData that nobody signed.

var oidSignedData = stdasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

// isPKCS7 reports whether the element is a ContentInfo with a SignedData, however malformed inside.
func isPKCS7(der []byte) bool {
	s := cryptobyte.String(der)
	var seq cryptobyte.String
	var kind stdasn1.ObjectIdentifier
	return s.ReadASN1(&seq, asn1.SEQUENCE) && seq.ReadASN1ObjectIdentifier(&kind) && kind.Equal(oidSignedData)
}

// pkcs7Certificates gives the DER of the certificates. What is signed is refused: its certificates
// are there to check the signature, which says nothing about whom to trust.
func pkcs7Certificates(der []byte) ([][]byte, error) {
	malformed := errors.New("PKCS#7: malformed, or not in DER")
	input := cryptobyte.String(der)
	var info, wrapped, signed, certs, signers cryptobyte.String
	if !input.ReadASN1(&info, asn1.SEQUENCE) || !input.Empty() {
		return nil, malformed
	}

	var kind stdasn1.ObjectIdentifier
	if !info.ReadASN1ObjectIdentifier(&kind) {
		return nil, malformed
	}

	if !kind.Equal(oidSignedData) {
		return nil, errors.New("PKCS#7: holds no certificates (not a SignedData)")
	}
	content := info.ReadASN1(&wrapped, asn1.Tag(0).ContextSpecific().Constructed()) && info.Empty()
	if !content || !wrapped.ReadASN1(&signed, asn1.SEQUENCE) || !wrapped.Empty() {
		return nil, malformed
	}

	// version, digestAlgorithms, contentInfo, certificates, crls, signerInfos
	var present bool
	begins := signed.SkipASN1(asn1.INTEGER) && signed.SkipASN1(asn1.SET) && signed.SkipASN1(asn1.SEQUENCE)
	if !begins || !signed.ReadOptionalASN1(&certs, &present, asn1.Tag(0).ContextSpecific().Constructed()) {
		return nil, malformed
	}
	lists := asn1.Tag(1).ContextSpecific().Constructed()
	if !signed.SkipOptionalASN1(lists) || !signed.ReadASN1(&signers, asn1.SET) || !signed.Empty() {
		return nil, malformed
	}
	if !signers.Empty() {
		return nil, errors.New("PKCS#7: is a signed message, not a collection of certificates")
	}

	var all [][]byte
	for !certs.Empty() {
		var cert cryptobyte.String
		if !certs.ReadASN1Element(&cert, asn1.SEQUENCE) || len(all) == maxCACerts {
			return nil, malformed
		}
		all = append(all, cert)
	}

	if len(all) == 0 {
		return nil, errors.New("PKCS#7: no certificate in it")
	}
	return all, nil
}
