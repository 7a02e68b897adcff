package verify

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
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

// crlFetched is a CRL that an address gave.
type crlFetched interface {
	crlList
	fetched()
}

// crlQuery asks for the CRLs that may speak of a certificate.
type crlQuery struct {
	cert, issuer *certinfo.Certificate
	point        *certinfo.DistributionPoint // that is being looked at
	settled      bool                        // the CRLs at hand say enough: no address need be waited for

	// asked holds the addresses that were asked about the certificate; who is asked adds to it.
	asked map[string]bool
	// doubt takes down why CRLs of other keys may prove nothing.
	doubt func(format string, args ...any)
}

// crlSource gives the CRLs, base and delta, that may speak of a certificate. The evaluation itself checks issuer, scope,
// dates and signature of each.
type crlSource interface {
	lists(ctx context.Context, q *crlQuery) ([]crlList, error)
}

// crlNetwork is the part of a source that asks addresses.
type crlNetwork interface {
	// announce starts what lists will ask for about a certificate.
	announce(ctx context.Context, cert, issuer *certinfo.Certificate)
	// mayBeSignedBy takes down that certificates of a path may have signed the CRLs that come.
	mayBeSignedBy(certs []*certinfo.Certificate)
	// rest asks the configured addresses that were not asked.
	rest(ctx context.Context, q *crlQuery) ([]crlList, error)
}

// crlNotes remembers which CRLs were seen before.
type crlNotes interface {
	// rollback says that a CRL is older than one that was seen of the same key and scope (errOlderCRL), or that nobody
	// knows. With an error the CRL must prove nothing.
	rollback(spki []byte, h *crlHead) error
	// seenOf names the note of a CRL that was seen of a CA's own key, beside one of the CA's name that another key signed;
	// "" is that there is none.
	seenOf(ca *certinfo.Certificate, other *crlHead) string
}

// crlIssuers finds the certificates that may have signed a CRL.
type crlIssuers interface {
	// named lists the certificates at hand with a subject.
	named(subject certinfo.Name) []*certinfo.Certificate
	// signerPath looks for a good path from an anchor to the signer of a CRL. revoked is asked about each, the anchor
	// first.
	signerPath(ctx context.Context, signer, anchor *certinfo.Certificate, revoked func([]*certinfo.Certificate) *refusal.Error) *refusal.Error
}

// errOlderCRL is said of a CRL when a newer one of its key and scope was seen before.
var errOlderCRL = errors.New("is older than one that was seen before (CRL number or thisUpdate)")

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
