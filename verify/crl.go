package verify

import (
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
)

// CRLs (RFC 5280, 5). The evaluation in crlcheck.go sees only crlSource and crlList, so that a list may
// be read from a file, from the network or from an index.

// crlList is one CRL, however it is kept.
type crlList interface {
	// head returns what stands around the entries. It may change, for the worse, when the list is read to its end.
	head() *crlHead
	// lookup finds the entry for a certificate by its issuer's name and the content octets of its serial number.
	lookup(issuer certinfo.Name, serial []byte) (crlEntry, bool, error)
	// signedBy checks that the CRL is signed with the key of a certificate; key is it with inherited parameters.
	signedBy(signer *certinfo.Certificate, key any) error
}

// crlSource gives the CRLs, base and delta, that may speak of the certificate of c. point is the distribution point that
// is being looked at. The evaluation itself checks issuer, scope, dates and signature of each.
type crlSource interface {
	lists(c *crlStatus, point *certinfo.DistributionPoint) ([]crlList, error)
}

// crlHead is a CRL without its entries.
type crlHead struct {
	issuer                 certinfo.Name
	rawIssuer              []byte
	rawAlgorithm           []byte
	rawExtensions          []byte // content of crlExtensions, nil when absent
	algorithm              certinfo.AlgorithmIdentifier
	thisUpdate, nextUpdate time.Time // nextUpdate is zero when absent
	number, deltaBase      *big.Int  // nil when absent; deltaBase makes it a delta
	point                  *issuingPoint
	rawPoint               []byte // the extension's value, nil when absent
	authorityKeyID         []byte // value of the extension
	unknownCritical        string // an extension, of the CRL or an entry, that forbids its use
	signature              []byte // octets of the signature; nil when they were not read, as from an index
}

// issuingPoint is the issuingDistributionPoint (RFC 5280, 5.2.5).
type issuingPoint struct {
	name                        *certinfo.DistributionPointName
	onlyUser, onlyCA, onlyAttrs bool
	reasons                     certinfo.ReasonFlags // 0: all
	indirect                    bool
}

// crlEntry is what a CRL says of one certificate.
type crlEntry struct {
	when   time.Time
	reason int // CRLReason; -1 when absent
}

// CRL and entry extensions that are understood.
const (
	oidCRLNumber         = "2.5.29.20"
	oidReasonCode        = "2.5.29.21"
	oidInvalidityDate    = "2.5.29.24"
	oidDeltaCRLIndicator = "2.5.29.27"
	oidIssuingPoint      = "2.5.29.28"
	oidCertificateIssuer = "2.5.29.29"
)

func entryKey(issuerKey string, serial []byte) string { return issuerKey + "\x00" + string(serial) }

func (c *crlHead) readHeadExtensions(der []byte) error {
	list, err := certinfo.ParseExtensions(der)
	if err != nil {
		return err
	}
	for _, e := range list {
		var err error
		switch e.String() {
		case oidCRLNumber:
			c.number, err = readNumber(e.Value)
		case oidDeltaCRLIndicator:
			c.deltaBase, err = readNumber(e.Value)
		case oidIssuingPoint:
			c.rawPoint = e.Value
			c.point, err = readIssuingPoint(e.Value)
		case certinfo.OIDAuthorityKeyIdentifier.String():
			c.authorityKeyID = e.Value
		case certinfo.OIDFreshestCRL.String(), certinfo.OIDIssuerAltName.String(), certinfo.OIDAuthorityInfoAccess.String():
		default:
			if e.Critical {
				c.unknownCritical = e.String()
			}
		}
		if err != nil {
			return fmt.Errorf("extension %v: %w", e, err)
		}
	}
	return nil
}

func readNumber(der []byte) (*big.Int, error) {
	s := cryptobyte.String(der)
	n := new(big.Int)
	if !s.ReadASN1Integer(n) || !s.Empty() || n.Sign() < 0 || n.BitLen() > 8*64 {
		return nil, errors.New("not a CRL number")
	}
	return n, nil
}

func readIssuingPoint(der []byte) (*issuingPoint, error) {
	s := cryptobyte.String(der)
	var seq, name cryptobyte.String
	var hasName bool
	malformed := errors.New("malformed issuingDistributionPoint")
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() ||
		!seq.ReadOptionalASN1(&name, &hasName, asn1.Tag(0).ContextSpecific().Constructed()) {
		return nil, malformed
	}
	var p issuingPoint
	var err error
	if hasName {
		if p.name, err = certinfo.ParseDistributionPointName(name); err != nil {
			return nil, err
		}
	}
	flags := map[uint8]*bool{1: &p.onlyUser, 2: &p.onlyCA, 4: &p.indirect, 5: &p.onlyAttrs}
	for n := uint8(1); n <= 5; n++ {
		tag := asn1.Tag(n).ContextSpecific()
		if !seq.PeekASN1Tag(tag) {
			continue
		}
		if n == 3 {
			if p.reasons, err = certinfo.ReadReasons(&seq, tag); err != nil {
				return nil, err
			}
			if p.reasons == 0 {
				return nil, malformed
			}
			continue
		}
		var content cryptobyte.String
		if !seq.ReadASN1(&content, tag) || len(content) != 1 || content[0] != 0 && content[0] != 0xff {
			return nil, malformed
		}
		*flags[n] = content[0] != 0
	}
	only := 0
	for _, set := range []bool{p.onlyUser, p.onlyCA, p.onlyAttrs} {
		if set {
			only++
		}
	}
	if !seq.Empty() || only > 1 {
		return nil, malformed
	}
	return &p, nil
}

// directoryName takes the one directoryName out of a GeneralNames.
func directoryName(der []byte) (certinfo.Name, error) {
	names, err := certinfo.ParseGeneralNames(der)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if n.Tag == certinfo.TagDirectoryName && n.OK {
			return n.Name, nil
		}
	}
	return nil, errors.New("certificateIssuer without a directory name")
}
