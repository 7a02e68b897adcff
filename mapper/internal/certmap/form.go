package certmap

import (
	"crypto"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/activedirectory"
)

// Templates that come in several forms: the certificate and its digests, and those of LDAPU1.

// certHashes are the digests that {cert!...} can have, by their whole names.
var certHashes = map[string]crypto.Hash{
	"sha1":   crypto.SHA1,
	"sha224": crypto.SHA224,
	"sha256": crypto.SHA256,
	"sha384": crypto.SHA384,
	"sha512": crypto.SHA512,
}

// certTemplate takes the whole certificate: its octets, those in Base64, or a digest.
func certTemplate(s selector, u1 bool) (extractor, error) {
	if s.dotted || s.numbered {
		return nil, errors.New("takes only a form behind its name")
	}

	switch s.conversion {
	case "", "bin":
		return func(c *certinfo.Certificate) ([]byte, bool) { return c.Raw, true }, nil
	case "base64":
		return func(c *certinfo.Certificate) ([]byte, bool) {
			return []byte(base64.StdEncoding.EncodeToString(c.Raw)), true
		}, nil
	}

	// What is left is a digest, with the letters of its hexadecimal form, as in sha256_uc.
	name, options, _ := strings.Cut(s.conversion, "_")
	hash, known := certHashes[strings.ToLower(name)]
	switch {
	case known && !u1:
		return nil, errors.New("digests are of LDAPU1, with which the rule must begin")
	case !known:
		return nil, fmt.Errorf("there is no form %q, expected bin, base64, sha1, sha224, sha256, sha384 or sha512", s.conversion)
	}

	write, err := hexForm(options, strings.Contains(s.conversion, "_"))
	if err != nil {
		return nil, err
	}
	return func(c *certinfo.Certificate) ([]byte, bool) { return write(c.Fingerprint(hash)), true }, nil
}

// hexForm reads the letters of a hexadecimal form, in either case: u is upper case, c with colons,
// r in reversed order.
func hexForm(letters string, some bool) (func([]byte) []byte, error) {
	var upper, colon, reversed bool

	for _, l := range strings.ToLower(letters) {
		flag := map[rune]*bool{'u': &upper, 'c': &colon, 'r': &reversed}[l]
		// A letter that is written twice says nothing more: its writer meant another one.
		if flag == nil || *flag {
			return nil, fmt.Errorf("_%s: expected each of the letters u, c and r at most once", letters)
		}
		*flag = true
	}
	if some && letters == "" {
		return nil, errors.New(`"_" without a letter u, c or r`)
	}

	return func(octets []byte) []byte {
		pairs := make([]string, len(octets))
		for i, b := range octets {
			pairs[i] = hex.EncodeToString([]byte{b})
		}
		if reversed {
			slices.Reverse(pairs)
		}

		text := strings.Join(pairs, map[bool]string{true: ":"}[colon])
		if upper {
			text = strings.ToUpper(text)
		}
		return []byte(text)
	}, nil
}

// hexConversion reads "hex" with its letters, in either case; "" is hex.
func hexConversion(s selector) (func([]byte) []byte, error) {
	name, letters, some := strings.Cut(s.conversion, "_")
	isHex := s.conversion == "" || strings.EqualFold(name, "hex")
	if !isHex || s.dotted || s.numbered {
		return nil, errors.New("takes only a form such as !hex_uc behind its name")
	}
	return hexForm(letters, some)
}

func serialTemplate(s selector, _ bool) (extractor, error) {
	// Letters such as _uc are about hexadecimal digits: dec has none.
	if strings.EqualFold(s.conversion, "dec") && !s.dotted && !s.numbered {
		return func(c *certinfo.Certificate) ([]byte, bool) { return []byte(c.Serial.String()), true }, nil
	}
	write, err := hexConversion(s)
	if err != nil {
		return nil, err
	}
	return func(c *certinfo.Certificate) ([]byte, bool) { return write(activedirectory.SerialOctets(c)), true }, nil
}

func keyIDTemplate(s selector, _ bool) (extractor, error) {
	write, err := hexConversion(s)
	if err != nil {
		return nil, err
	}
	return func(c *certinfo.Certificate) ([]byte, bool) { return write(c.SubjectKeyID), len(c.SubjectKeyID) > 0 }, nil
}

func sidTemplate(s selector, _ bool) (extractor, error) {
	hasOther := s.numbered || s.conversion != ""
	if s.dotted && s.part != "rid" || hasOther {
		return nil, errors.New("takes nothing behind its name but .rid")
	}

	return func(c *certinfo.Certificate) ([]byte, bool) {
		// A certificate with two identifiers that differ has none: nobody knows whose it is.
		holder, err := activedirectory.SIDOf(c)
		if err != nil || holder == nil {
			return nil, false
		}
		if s.dotted {
			return []byte(holder.Rid()), true
		}
		return []byte(holder.Text), true
	}, nil
}

// componentTemplate takes one attribute out of a name: the most specific one, the most specific of
// a type, the n-th from the most specific (n > 0) or from the most general (n < 0), or the n-th if
// it is of the type.
func componentTemplate(name func(*certinfo.Certificate) certinfo.Name) func(selector, bool) (extractor, error) {
	return func(s selector, _ bool) (extractor, error) {
		var oid asn1.ObjectIdentifier

		if s.part != "" {
			// Any value makes a name of the type: the parser knows the types by name and by number.
			n, err := certinfo.ParseRFC4514(s.part + "=x")
			if err != nil {
				return nil, fmt.Errorf("there is no attribute %q", s.part)
			}
			oid = n[0][0].OID
		}

		switch {
		case s.conversion != "":
			return nil, errors.New("takes no form behind its name")
		case s.numbered && s.number == 0:
			return nil, errors.New("parts count from 1, or from -1")
		case s.dotted && s.part == "" && !s.numbered:
			return nil, errors.New(`"." without an attribute or a number`)
		}

		return func(c *certinfo.Certificate) ([]byte, bool) {
			a, ok := component(name(c), oid, s)
			return []byte(a.Text), ok && a.OK && a.Text != ""
		}, nil
	}
}

// component returns the attribute that a selector means.
func component(n certinfo.Name, oid asn1.ObjectIdentifier, s selector) (certinfo.Attribute, bool) {
	// RFC 5280 writes the most general part first; templates count from the most specific one.
	var all []certinfo.Attribute
	for _, rdn := range n {
		all = append(all, rdn...)
	}
	slices.Reverse(all)

	fits := func(a certinfo.Attribute) bool { return oid == nil || a.OID.Equal(oid) }

	if !s.numbered {
		i := slices.IndexFunc(all, fits)
		if i < 0 {
			return certinfo.Attribute{}, false
		}
		return all[i], true
	}

	// Numbers count from 1, and from -1 at the other end; componentTemplate has refused 0.
	i := s.number - 1
	if s.number < 0 {
		i = len(all) + s.number
	}
	if i < 0 || i >= len(all) || !fits(all[i]) {
		return certinfo.Attribute{}, false
	}
	return all[i], true
}
