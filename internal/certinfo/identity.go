package certinfo

import (
	stdasn1 "encoding/asn1"
	"errors"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// What a certificate says about its holder, for mappers. All values are returned, in the order of
// the certificate; one with OK false must never match (see Text).

// CommonNames returns the common names of the subject.
func (c *Certificate) CommonNames() []Text { return attributeTexts(c.Subject.Values(OIDCommonName)) }

// UserIDs returns the x500UniqueIdentifier attributes of the subject, or, when it has none, its
// userId attributes.
func (c *Certificate) UserIDs() []Text {
	values := c.Subject.Values(OIDUniqueIdentifier)
	if len(values) == 0 {
		values = c.Subject.Values(OIDUserID)
	}
	return attributeTexts(values)
}

// attributeTexts decodes attributes.
func attributeTexts(values []Attribute) []Text {
	var texts []Text
	for _, a := range values {
		texts = append(texts, newText(a.Tag, a.Raw))
	}
	return texts
}

// Emails returns the rfc822Name entries of the subject's alternative names.
func (c *Certificate) Emails() []Text { return c.sanTexts(TagRFC822Name) }

// URIs returns the URI entries of the subject's alternative names.
func (c *Certificate) URIs() []Text { return c.sanTexts(TagURI) }

// DNSNames returns the dNSName entries of the subject's alternative names.
func (c *Certificate) DNSNames() []Text { return c.sanTexts(TagDNSName) }

// sanTexts returns the alternative names of a kind.
func (c *Certificate) sanTexts(tag int) []Text {
	var texts []Text
	for _, n := range c.SANs {
		if n.Tag == tag {
			texts = append(texts, Text{Value: n.Text, OK: n.OK, Why: n.Why})
		}
	}
	return texts
}

// UPNs returns the user principal names of the subject's alternative names ([MS-WCCE] 2.2.2.7.7.3):
// UTF8String, and the other string types that CAs write there.
func (c *Certificate) UPNs() []Text { return c.otherNames(OIDUPN, upnText) }

// KerberosPrincipals returns the KRB5PrincipalName entries (RFC 4556, 3.2.2) as
// "name/instance@REALM", with "/", "@" and "\" inside a component escaped by a backslash; a bare
// string, which some CAs write, is returned as it is.
func (c *Certificate) KerberosPrincipals() []Text {
	return c.otherNames(OIDKRB5PrincipalName, principalText)
}

// otherNames returns the otherNames of a type, decoded.
func (c *Certificate) otherNames(oid stdasn1.ObjectIdentifier, decode func([]byte) Text) []Text {
	var texts []Text
	for _, n := range c.SANs {
		switch {
		case n.Tag != TagOtherName || !n.OtherOID.Equal(oid):
		case !n.OK:
			texts = append(texts, Text{Why: n.Why})
		default:
			texts = append(texts, decode(n.OtherValue))
		}
	}
	return texts
}

// UPN returns the user principal name of an otherName; ok is false when n is something else.
func (n GeneralName) UPN() (text Text, ok bool) {
	if n.Tag != TagOtherName || !n.OtherOID.Equal(OIDUPN) {
		return Text{}, false
	}
	if !n.OK {
		return Text{Why: n.Why}, true
	}
	return upnText(n.OtherValue), true
}

// StringValue reads the DER of one value of a string type, as otherNames hold it.
func StringValue(der []byte) Text { return upnText(der) }

// upnText reads a string of any type.
func upnText(value []byte) Text {
	s := cryptobyte.String(value)
	var content cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&content, &tag) || !s.Empty() {
		return Text{Why: "malformed string"}
	}
	return newText(int(tag), content)
}

// principalText reads a Kerberos principal, or a bare string.
func principalText(value []byte) Text {
	s := cryptobyte.String(value)
	if !s.PeekASN1Tag(asn1.SEQUENCE) {
		return upnText(value)
	}

	text, err := readPrincipal(s)
	if err != nil {
		return Text{Value: text, Why: err.Error()}
	}
	return Text{Value: text, OK: true}
}

// readPrincipal reads KRB5PrincipalName (RFC 4556, 3.2.2; RFC 4120, 5.2).
func readPrincipal(s cryptobyte.String) (string, error) {
	malformed := errors.New("malformed Kerberos principal")
	var seq, realmField, nameField, realm, principal, kind, list, components cryptobyte.String
	tag := func(n uint8) asn1.Tag { return asn1.Tag(n).ContextSpecific().Constructed() }

	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() {
		return "", malformed
	}
	if !seq.ReadASN1(&realmField, tag(0)) || !seq.ReadASN1(&nameField, tag(1)) || !seq.Empty() {
		return "", malformed
	}
	if !realmField.ReadASN1(&realm, asn1.GeneralString) || !realmField.Empty() {
		return "", malformed
	}

	// The name type is only a hint (RFC 4120, 6.2).
	if !nameField.ReadASN1(&principal, asn1.SEQUENCE) || !nameField.Empty() {
		return "", malformed
	}
	if !principal.ReadASN1(&kind, tag(0)) || !principal.ReadASN1(&list, tag(1)) || !principal.Empty() {
		return "", malformed
	}
	if !list.ReadASN1(&components, asn1.SEQUENCE) || !list.Empty() || components.Empty() {
		return "", malformed
	}

	var b strings.Builder
	for first := true; !components.Empty(); first = false {
		var part cryptobyte.String
		if !components.ReadASN1(&part, asn1.GeneralString) {
			return "", malformed
		}
		if !first {
			b.WriteByte('/')
		}

		if err := addPrincipalPart(&b, part); err != nil {
			return "", err
		}
	}

	b.WriteByte('@')
	err := addPrincipalPart(&b, realm)
	return b.String(), err
}

// addPrincipalPart adds a component or the realm. Escapes keep "a/b" and two components apart.
func addPrincipalPart(b *strings.Builder, raw []byte) error {
	text := newText(tagGeneralString, raw)
	if !text.OK {
		return errors.New(text.Why)
	}

	b.WriteString(strings.NewReplacer(`\`, `\\`, `/`, `\/`, `@`, `\@`).Replace(text.Value))
	return nil
}

var sidForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^S-1-[0-9]{1,15}(-[0-9]{1,10}){1,15}$`) })

// SIDs returns the Windows security identifiers of the holder: those of the NTDS security extension
// ([MS-WCCE] 2.2.2.7.7.4) and of the URIs "tag:microsoft.com,2022-09-14:sid:". When they disagree
// none of them is OK.
func (c *Certificate) SIDs() []Text {
	var sids []Text
	// Both places are read, so that they can be compared.
	if e := c.Extension(OIDNTDSSecurity); e != nil {
		sids = append(sids, extensionSIDs(e.Value)...)
	}
	for _, n := range c.SANs {
		if n.Tag == TagURI && len(n.Text) >= len(uriSIDPrefix) && strings.EqualFold(n.Text[:len(uriSIDPrefix)], uriSIDPrefix) {
			sids = append(sids, sidText(n.Text[len(uriSIDPrefix):]))
		}
	}

	// Two identifiers would let whoever wrote one of them choose the account.
	for _, s := range sids {
		if s.Value != sids[0].Value {
			for i := range sids {
				sids[i].OK = false
				sids[i].Why = "certificate carries differing security identifiers"
			}
			break
		}
	}
	return sids
}

// extensionSIDs reads the identifiers of the NTDS security extension.
func extensionSIDs(value []byte) []Text {
	names, err := ParseGeneralNames(value)
	if err != nil {
		return []Text{{Why: err.Error()}}
	}

	var sids []Text
	for _, n := range names {
		if n.Tag != TagOtherName || !n.OtherOID.Equal(OIDNTDSObjectSID) {
			continue
		}

		// The identifier is text in an OCTET STRING, not in a string type.
		s := cryptobyte.String(n.OtherValue)
		var content cryptobyte.String
		if !n.OK || !s.ReadASN1(&content, asn1.OCTET_STRING) || !s.Empty() {
			sids = append(sids, Text{Why: "malformed security identifier"})
			continue
		}

		sids = append(sids, sidText(string(content)))
	}
	return sids
}

// sidText checks the form of an identifier.
func sidText(s string) Text {
	if !sidForm().MatchString(s) {
		return Text{Why: "not a security identifier"}
	}
	return Text{Value: s, OK: true}
}
