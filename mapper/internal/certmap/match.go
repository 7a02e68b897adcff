package certmap

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/activedirectory"
	"pam_pkcs11/mapper/internal/certtext"
	"pam_pkcs11/mapper/internal/posix"
)

// matchRule selects the certificates that a rule is about: sss-certmap's KRB5 rules, which come
// from pkinit_cert_match of MIT Kerberos.
type matchRule struct {
	any        bool // "||": one condition is enough
	conditions []condition
}

// condition is one keyword with its pattern.
type condition func(*certinfo.Certificate) bool

// defaultMatch is the matching rule of sss-certmap where none is written.
const defaultMatch = "<KU>digitalSignature<EKU>clientAuth"

// maxConditions bounds one rule.
const maxConditions = 64

// matches reports whether the rule is about a certificate.
func (r *matchRule) matches(cert *certinfo.Certificate) bool {
	holds := func(c condition) bool { return c(cert) }
	fails := func(c condition) bool { return !c(cert) }
	if r.any {
		return slices.ContainsFunc(r.conditions, holds)
	}
	return !slices.ContainsFunc(r.conditions, fails)
}

// ruleType cuts the type off a rule: capitals and digits before the first colon.
func ruleType(text string) (typ, rest string) {
	before, after, found := strings.Cut(text, ":")
	if !found || strings.Trim(before, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		return "", text
	}
	return before, after
}

// keywordShape is a keyword at the beginning of a text.
var keywordShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^<([A-Za-z0-9]+(:[^<>]*)?)>`) })

// parseMatch reads a matching rule.
func parseMatch(text string) (*matchRule, error) {
	typ, rest := ruleType(text)
	if typ != "" && typ != "KRB5" {
		return nil, fmt.Errorf("type %s is not known, expected KRB5", typ)
	}

	r := &matchRule{}
	rest = strings.TrimSpace(rest)
	// "&&" is the default, and may be written.
	if after, found := strings.CutPrefix(rest, "||"); found {
		r.any = true
		rest = after
	} else {
		rest = strings.TrimPrefix(rest, "&&")
	}
	if rest == "" {
		return nil, errors.New("nothing to match is given")
	}

	for rest != "" {
		keyword := keywordShape().FindStringSubmatch(rest)
		if keyword == nil {
			return nil, fmt.Errorf("a keyword such as <SUBJECT> is expected at %.40q", rest)
		}
		rest = rest[len(keyword[0]):]

		// Patterns are not quoted: one ends where the next keyword begins.
		end := nextKeyword(rest)
		c, err := newCondition(keyword[1], rest[:end])
		if err != nil {
			return nil, fmt.Errorf("<%s>: %w", keyword[1], err)
		}

		if len(r.conditions) == maxConditions {
			return nil, fmt.Errorf("more than %d keywords", maxConditions)
		}
		r.conditions = append(r.conditions, c)
		rest = rest[end:]
	}
	return r, nil
}

// nextKeyword returns where the pattern at the beginning of s ends.
func nextKeyword(s string) int {
	for i := range len(s) {
		// "<" may be part of a pattern: only the shape of a keyword ends it.
		if s[i] == '<' && keywordShape().MatchString(s[i:]) {
			return i
		}
	}
	return len(s)
}

// newCondition makes the condition of a keyword.
func newCondition(keyword, pattern string) (condition, error) {
	// A sign in the middle would be part of the pattern, and match nothing: its writer meant
	// another rule.
	if strings.HasSuffix(pattern, "&&") || strings.HasSuffix(pattern, "||") {
		return nil, fmt.Errorf("%s stands at the beginning of the rule", pattern[len(pattern)-2:])
	}

	switch keyword {
	case "SUBJECT":
		return nameCondition(pattern, func(c *certinfo.Certificate) certinfo.Name { return c.Subject })
	case "ISSUER":
		return nameCondition(pattern, func(c *certinfo.Certificate) certinfo.Name { return c.Issuer })
	case "KU":
		return usageCondition(pattern)
	case "EKU":
		return purposeCondition(pattern)
	case "SAN":
		return principalCondition(pattern, true, true)
	}

	kind, isName := strings.CutPrefix(keyword, "SAN:")
	if !isName {
		return nil, errors.New("this keyword is not known, expected SUBJECT, ISSUER, KU, EKU, SAN or SAN:KIND")
	}
	return alternativeCondition(kind, pattern)
}

// nameCondition compares with the name in the form of RFC 4514.
func nameCondition(pattern string, name func(*certinfo.Certificate) certinfo.Name) (condition, error) {
	re, err := posix.CompileSearch(pattern)
	if err != nil {
		return nil, err
	}
	return func(c *certinfo.Certificate) bool { return re.MatchString(matchedName(name(c))) }, nil
}

// matchedName is RFC 4514's form, with sss-certmap's name for the street.
func matchedName(n certinfo.Name) string {
	return activedirectory.NameText(n, false, "+", func(a certinfo.Attribute) (string, bool) {
		text := certinfo.Name{certinfo.RDN{a}}.RFC4514()
		if rest, found := strings.CutPrefix(text, "street="); found {
			text = "STREET=" + rest
		}
		return text, true
	})
}

// usages are the names of key usages and their bits as OpenSSL numbers them, which is what a number
// in a rule means.
var usages = map[string]uint32{
	"digitalSignature": 0x80,
	"nonRepudiation":   0x40,
	"keyEncipherment":  0x20,
	"dataEncipherment": 0x10,
	"keyAgreement":     0x08,
	"keyCertSign":      0x04,
	"cRLSign":          0x02,
	"encipherOnly":     0x01,
	"decipherOnly":     0x8000,
}

// usageBits turns the bits of RFC 5280 into those of usages.
func usageBits(u certinfo.KeyUsage) uint32 {
	var bits uint32
	for i := range 9 {
		if u&(1<<i) == 0 {
			continue
		}

		// The first octet of the bit string goes to the low byte, its first bit to the highest; the
		// ninth bit is the first of the second octet.
		if i == 8 {
			bits |= 0x8000
		} else {
			bits |= 0x80 >> i
		}
	}
	return bits
}

// usageCondition holds where the certificate has all usages of the list. One without the extension
// may be used for all of them (RFC 5280, 4.2.1.3).
func usageCondition(list string) (condition, error) {
	var want uint32
	for _, word := range listWords(list) {
		bits, known := named(usages, word)
		if !known {
			// Bits without a name are given as a number (sss-certmap(5)).
			n, err := strconv.ParseUint(word, 0, 32)
			if err != nil {
				return nil, fmt.Errorf("%q is no key usage", word)
			}
			bits = uint32(n)
		}
		want |= bits
	}

	return func(c *certinfo.Certificate) bool {
		return !c.HasKeyUsage || usageBits(c.KeyUsage)&want == want
	}, nil
}

// named looks a name up without regard to case, as sss-certmap reads the names of usages.
func named[V any](table map[string]V, word string) (V, bool) {
	for name, v := range table {
		if strings.EqualFold(name, word) {
			return v, true
		}
	}
	var none V
	return none, false
}

// listWords returns the words of a list with commas. Where one is empty it is "", which nothing
// knows.
func listWords(list string) []string {
	words := strings.Split(list, ",")
	for i := range words {
		words[i] = strings.TrimSpace(words[i])
	}
	return words
}

// certmapPurposes are sss-certmap's names of extended key usages.
var certmapPurposes = map[string]string{
	"serverAuth":      "1.3.6.1.5.5.7.3.1",
	"clientAuth":      "1.3.6.1.5.5.7.3.2",
	"codeSigning":     "1.3.6.1.5.5.7.3.3",
	"emailProtection": "1.3.6.1.5.5.7.3.4",
	"timeStamping":    "1.3.6.1.5.5.7.3.8",
	"OCSPSigning":     "1.3.6.1.5.5.7.3.9",
	"KPClientAuth":    "1.3.6.1.5.2.3.4",
	"pkinit":          "1.3.6.1.5.2.3.4",
	"msScLogin":       "1.3.6.1.4.1.311.20.2.2",
}

// purposeCondition holds where the certificate has each purpose of the list by itself;
// anyExtendedKeyUsage does not stand for them.
func purposeCondition(list string) (condition, error) {
	var want []asn1.ObjectIdentifier
	for _, word := range listWords(list) {
		dotted, known := named(certmapPurposes, word)
		if !known {
			dotted = word
		}
		// Purposes without a name are given by their identifiers (sss-certmap(5)).
		oid, err := certinfo.ParseOID(dotted)
		if err != nil {
			return nil, fmt.Errorf("%q is no extended key usage", word)
		}
		want = append(want, oid)
	}

	return func(c *certinfo.Certificate) bool {
		for _, w := range want {
			if !slices.ContainsFunc(c.ExtKeyUsage, w.Equal) {
				return false
			}
		}
		return true
	}, nil
}

// principalCondition compares with the Kerberos principals and Microsoft's principal names.
func principalCondition(pattern string, kerberos, windows bool) (condition, error) {
	re, err := posix.CompileSearch(pattern)
	if err != nil {
		return nil, err
	}
	return func(c *certinfo.Certificate) bool {
		return kerberos && anyText(re, c.KerberosPrincipals()) || windows && anyText(re, c.UPNs())
	}, nil
}

func anyText(re *regexp.Regexp, texts []certinfo.Text) bool {
	return slices.ContainsFunc(certtext.Usable(texts), re.MatchString)
}

// alternativeKind is one kind of alternative name, by sss-certmap's name of it.
type alternativeKind struct {
	name      string
	condition func(pattern string) (condition, error)
}

var alternativeKinds = []alternativeKind{
	{"otherName", octetsOf(certinfo.TagOtherName)},
	{"rfc822Name", textOf(certinfo.TagRFC822Name)},
	{"dNSName", textOf(certinfo.TagDNSName)},
	{"x400Address", octetsOf(certinfo.TagX400Address)},
	{"directoryName", textOf(certinfo.TagDirectoryName)},
	{"ediPartyName", octetsOf(certinfo.TagEDIPartyName)},
	{"uniformResourceIdentifier", textOf(certinfo.TagURI)},
	{"iPAddress", textOf(certinfo.TagIPAddress)},
	{"registeredID", textOf(certinfo.TagRegisteredID)},
	{"pkinitSAN", principalOf(true, false)},
	{"ntPrincipalName", principalOf(false, true)},
	{"Principal", principalOf(true, true)},
}

// textOf makes conditions about the names of a tag as texts.
func textOf(tag int) func(string) (condition, error) {
	return func(pattern string) (condition, error) { return textCondition(tag, nil, pattern) }
}

// octetsOf makes conditions about the names of a tag as octets.
func octetsOf(tag int) func(string) (condition, error) {
	return func(pattern string) (condition, error) { return octetsCondition(tag, pattern) }
}

func principalOf(kerberos, windows bool) func(string) (condition, error) {
	return func(pattern string) (condition, error) { return principalCondition(pattern, kerberos, windows) }
}

// alternativeCondition is about one kind of alternative name. The kind is given by its name or the
// beginning of it (sss-certmap's own manual page writes pkinit), both without regard to case, or
// for an otherName by the object identifier. Where several kinds begin so, SSSD takes the first;
// here that is an error, since the writer may have meant the other one.
func alternativeCondition(kind, pattern string) (condition, error) {
	if kind == "" {
		return nil, errors.New("there is no such kind of alternative name: it is empty (<SAN> is any principal)")
	}

	var found []alternativeKind
	for _, k := range alternativeKinds {
		if len(kind) <= len(k.name) && strings.EqualFold(k.name[:len(kind)], kind) {
			found = append(found, k)
		}
	}

	switch len(found) {
	case 1:
		return found[0].condition(pattern)
	case 0:
		// No kind has this name: it may be the identifier of an otherName.
		oid, err := certinfo.ParseOID(kind)
		if err != nil {
			return nil, errors.New("there is no such kind of alternative name, expected " + kindNames(alternativeKinds) + " or an object identifier")
		}
		return textCondition(certinfo.TagOtherName, oid, pattern)
	}
	return nil, errors.New("which kind of alternative name is meant? " + kindNames(found) + " begin so")
}

func kindNames(kinds []alternativeKind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.name
	}
	return strings.Join(names, ", ")
}

// textCondition compares with the names of a tag as texts; oid, unless nil, is that of an
// otherName.
func textCondition(tag int, oid asn1.ObjectIdentifier, pattern string) (condition, error) {
	re, err := posix.CompileSearch(pattern)
	if err != nil {
		return nil, err
	}

	return func(c *certinfo.Certificate) bool {
		return slices.ContainsFunc(c.SANs, func(n certinfo.GeneralName) bool {
			if n.Tag != tag || oid != nil && !n.OtherOID.Equal(oid) {
				return false
			}
			text, ok := nameAsText(n)
			return ok && re.MatchString(text)
		})
	}, nil
}

// nameAsText returns an alternative name as regular expressions see it. ok is false for one that is
// malformed.
func nameAsText(n certinfo.GeneralName) (text string, ok bool) {
	if !n.OK {
		return "", false
	}
	switch n.Tag {
	case certinfo.TagDirectoryName:
		return matchedName(n.Name), true
	case certinfo.TagIPAddress:
		return n.IP.String(), true
	case certinfo.TagOtherName:
		t := certinfo.StringValue(n.OtherValue)
		return t.Value, t.OK
	}
	return n.Text, n.Text != ""
}

// octetsCondition looks for the octets that the pattern has in Base64, anywhere in the content of
// the name, as SSSD does. Of an otherName they are looked for in its value (the tag and the length
// of the value may be among them); they may also be all of its content, with the object identifier.
func octetsCondition(tag int, pattern string) (condition, error) {
	want, err := base64.StdEncoding.DecodeString(pattern)
	if err != nil || len(want) == 0 {
		return nil, errors.New("what is to be found stands here in Base64")
	}

	return func(c *certinfo.Certificate) bool {
		return slices.ContainsFunc(c.SANs, func(n certinfo.GeneralName) bool {
			switch {
			case n.Tag != tag:
				return false
			case tag == certinfo.TagOtherName:
				return bytes.Contains(n.OtherValue, want) || bytes.Equal(n.Raw, want)
			}
			return bytes.Contains(n.Raw, want)
		})
	}, nil
}
