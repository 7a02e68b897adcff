package simcard

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"time"

	"pam_pkcs11/internal/iso7816"
)

// Yubico is the commands that YubiKeys, and cards that follow them, have beside those of the
// specification. The formats are those of Yubico's documentation of the PIV application,
// "Extensions".
type Yubico struct {
	Version [3]byte // FD
	Serial  uint32  // F8, from version 5 on, and the applet for one-time passwords; 0 for none

	Metadata Metadata // F7
	Attest   bool     // F9 is there, for keys that were generated on the card
}

// Metadata is how a card answers F7.
type Metadata int

// Kinds of metadata. Nitrokey 3 answers 9000 without data for all but 9E.
const (
	MetadataNone  Metadata = iota // 6D00
	MetadataFull                  // YubiKey from version 5.3
	MetadataEmpty                 // 9000, and nothing
)

// Instructions of Yubico.
const (
	insMetadata = 0xF7
	insSerial   = 0xF8
	insAttest   = 0xF9
	insVersion  = 0xFD
)

// Origin of a key, in metadata.
const (
	originGenerated = 1
	originImported  = 2
)

// yubico answers Yubico's commands; not ok is a command that the card does not have.
func (c *Card) yubico(apdu *iso7816.Command) (data []byte, sw iso7816.Status, ok bool) {
	y := c.o.Yubico
	if y == nil {
		return nil, 0, false
	}

	switch {
	case apdu.INS == insVersion:
		return y.Version[:], iso7816.StatusOK, true
	case apdu.INS == insSerial && y.Serial != 0 && y.Version[0] >= 5:
		return binary.BigEndian.AppendUint32(nil, y.Serial), iso7816.StatusOK, true
	case apdu.INS == insMetadata && y.Metadata == MetadataFull:
		data, sw = c.metadata(apdu.P2)
		return data, sw, true
	case apdu.INS == insMetadata && y.Metadata == MetadataEmpty:
		return nil, iso7816.StatusOK, true
	case apdu.INS == insAttest && y.Attest:
		data, sw = c.attest(KeyRef(apdu.P1))
		return data, sw, true
	}
	return nil, 0, false
}

// oneTimeAID names the applet for one-time passwords, which brings the serial number of keys whose
// PIV applet does not (yubico-piv-tool asks every key before version 5 so, between SELECT and
// VERIFY).
var oneTimeAID = []byte{0xA0, 0x00, 0x00, 0x05, 0x27, 0x20, 0x01, 0x01}

// oneTimeStatus is the answer of SELECT: the version, and that no slot is programmed.
func (y *Yubico) oneTimeStatus() []byte { return append(y.Version[:], 0, 0, 0) }

// oneTime answers the one command of that applet that is here: the serial number (INS 01, P1 10).
func (c *Card) oneTime(apdu *iso7816.Command) ([]byte, iso7816.Status) {
	if apdu.INS != 0x01 || apdu.P1 != 0x10 {
		return nil, iso7816.StatusWrongINS
	}
	return binary.BigEndian.AppendUint32(nil, c.o.Yubico.Serial), iso7816.StatusOK
}

// metadata describes a PIN, a PUK or a key.
func (c *Card) metadata(ref byte) ([]byte, iso7816.Status) {
	switch ref {
	case refPIN:
		return c.pin.metadata("123456"), iso7816.StatusOK
	case refPUK:
		return c.puk.metadata("12345678"), iso7816.StatusOK
	case refAdmin:
		return c.admin.metadata(), iso7816.StatusOK
	}
	k := c.keys[KeyRef(ref)]
	if k == nil {
		return nil, iso7816.StatusNoReference
	}

	origin := byte(originImported)
	if k.generated {
		origin = originGenerated
	}

	policy := c.policy(KeyRef(ref))
	tlv := iso7816.AppendTLV
	b := tlv(nil, 0x01, []byte{byte(k.algorithm)})
	b = tlv(b, 0x02, []byte{byte(policy.PIN), byte(policy.Touch)})
	b = tlv(b, 0x03, []byte{origin})
	return tlv(b, 0x04, k.publicValue()), iso7816.StatusOK
}

// metadata of a PIN: that it is one, whether it is the maker's, and its tries.
func (r *reference) metadata(makers string) []byte {
	tlv := iso7816.AppendTLV
	b := tlv(nil, 0x01, []byte{0xFF})
	b = tlv(b, 0x05, []byte{isTrue(string(r.value) == string(padded(makers)))})
	return tlv(b, 0x06, []byte{byte(r.max), byte(r.left)})
}

func (a *adminKey) metadata() []byte {
	tlv := iso7816.AppendTLV
	b := tlv(nil, 0x01, []byte{byte(a.algorithm)})
	b = tlv(b, 0x02, []byte{0, byte(TouchNever)})
	return tlv(b, 0x05, []byte{isTrue(a.makers)})
}

func isTrue(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Object identifiers of Yubico's extensions in an attestation: version, serial number, policies.
var (
	oidVersion = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 3}
	oidSerial  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 7}
	oidPolicy  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 8}
)

// attest makes a certificate that says of a generated key what the card knows of it.
func (c *Card) attest(ref KeyRef) ([]byte, iso7816.Status) {
	k := c.keys[ref]
	switch {
	case k == nil:
		return nil, iso7816.StatusNoReference
	case !k.generated:
		return nil, iso7816.StatusWrongData
	}

	private, err := ecdsa.GenerateKey(elliptic.P256(), c.o.Rand)
	if err != nil {
		return nil, iso7816.StatusUnknown
	}

	y := c.o.Yubico
	policy := c.policy(ref)
	serial, err := asn1.Marshal(int64(y.Serial))
	if err != nil {
		return nil, iso7816.StatusUnknown
	}

	// Signed by a key that is thrown away: tests read the extensions, and build no chain.
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "Simulated PIV Attestation"},
		NotBefore:    time.Date(2016, 3, 14, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2052, 4, 17, 0, 0, 0, 0, time.UTC),
		ExtraExtensions: []pkix.Extension{
			{Id: oidVersion, Value: y.Version[:]},
			{Id: oidSerial, Value: serial},
			{Id: oidPolicy, Value: []byte{byte(policy.PIN), byte(policy.Touch)}},
		},
	}

	public := k.private.(crypto.Signer).Public()
	der, err := x509.CreateCertificate(c.o.Rand, template, template, public, private)
	if err != nil {
		return nil, iso7816.StatusUnknown
	}

	return der, iso7816.StatusOK
}
