package certinfo

import (
	stdasn1 "encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Context tags of the choices of GeneralName (RFC 5280, 4.2.1.6).
const (
	TagOtherName     = 0
	TagRFC822Name    = 1
	TagDNSName       = 2
	TagX400Address   = 3
	TagDirectoryName = 4
	TagEDIPartyName  = 5
	TagURI           = 6
	TagIPAddress     = 7
	TagRegisteredID  = 8
)

// maxGeneralNames bounds the names of one extension.
const maxGeneralNames = 1024

// GeneralName is one alternative name. A name that is malformed inside (a URI that does not parse,
// an rfc822Name that is not ASCII, an address of the wrong length) has OK false and Why: that entry
// is unusable, the certificate is not.
type GeneralName struct {
	Tag        int    // the context tag, 0 to 8
	Raw        []byte // content octets of the choice
	OtherOID   stdasn1.ObjectIdentifier
	OtherValue []byte // content of the explicit [0] of an otherName: the DER of its value
	Text       string // rfc822Name, dNSName and URI as they stand; registeredID dotted
	OK         bool
	Why        string // what is wrong when OK is false
	Name       Name   // directoryName
	IP         net.IP // iPAddress, 4 or 16 octets
}

// ParseGeneralNames reads a DER-encoded GeneralNames and nothing after it.
func ParseGeneralNames(der []byte) ([]GeneralName, error) {
	s := cryptobyte.String(der)
	var seq cryptobyte.String
	if !s.ReadASN1(&seq, asn1.SEQUENCE) || !s.Empty() {
		return nil, errors.New("general names: not a sequence")
	}
	return readGeneralNames(seq)
}

// readGeneralNames reads the content of a GeneralNames.
func readGeneralNames(seq cryptobyte.String) ([]GeneralName, error) {
	var names []GeneralName
	for !seq.Empty() {
		if len(names) == maxGeneralNames {
			return nil, fmt.Errorf("more than %d general names", maxGeneralNames)
		}
		n, err := readGeneralName(&seq)
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// readGeneralName reads one GeneralName. An error is of its frame; what is wrong inside makes the
// entry unusable.
func readGeneralName(s *cryptobyte.String) (GeneralName, error) {
	var content cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&content, &tag) {
		return GeneralName{}, errors.New("general name: malformed")
	}

	number := int(tag & 0x1f)
	// 0x80 are the context-specific tags; the low five bits are the choice.
	if tag&0xc0 != 0x80 || number > TagRegisteredID {
		return GeneralName{}, fmt.Errorf("general name: no choice has tag 0x%02x", uint8(tag))
	}
	n := GeneralName{Tag: number, Raw: content}

	constructed := tag&0x20 != 0
	// A SEQUENCE or CHOICE inside gives the constructed form, a string or number the primitive.
	switch number {
	case TagOtherName, TagX400Address, TagDirectoryName, TagEDIPartyName:
		if !constructed {
			return GeneralName{}, errors.New("general name: constructed form expected")
		}
	default:
		if constructed {
			return GeneralName{}, errors.New("general name: primitive form expected")
		}
	}

	if err := n.decode(); err != nil {
		n.Why = err.Error()
	} else {
		n.OK = true
	}
	return n, nil
}

// decode fills the fields of the choice. An error makes the entry unusable.
func (n *GeneralName) decode() error {
	s := cryptobyte.String(n.Raw)
	switch n.Tag {
	case TagOtherName:
		return n.decodeOther(s)
	case TagRFC822Name, TagDNSName, TagURI:
		// The text is kept also when it is refused, to be shown.
		text, err := decodeString(tagIA5String, s)
		if err == nil {
			err = checkText(text)
		}
		n.Text = text
		if err != nil {
			return err
		}
		return checkForm(n.Tag, text)
	case TagDirectoryName:
		name, err := ParseName(s)
		n.Name = name
		return err
	case TagIPAddress:
		if len(s) != net.IPv4len && len(s) != net.IPv6len {
			return fmt.Errorf("address of %d octets", len(s))
		}
		n.IP = net.IP(s)
	case TagRegisteredID:
		oid, ok := decodeOID(s)
		if !ok || oid == nil {
			return errors.New("not an object identifier that can be held")
		}
		n.Text = oid.String()
	}
	return nil
}

// decodeOther reads an otherName: a type, and a value under the explicit tag 0.
func (n *GeneralName) decodeOther(s cryptobyte.String) error {
	oid, _, ok := readOID(&s)
	var value cryptobyte.String
	if !ok || !s.ReadASN1(&value, asn1.Tag(0).ContextSpecific().Constructed()) || !s.Empty() {
		return errors.New("malformed otherName")
	}

	n.OtherOID = oid
	n.OtherValue = value
	return nil
}

// checkForm refuses names whose inner form is broken, so that no caller has to guess what they
// mean.
func checkForm(tag int, s string) error {
	switch tag {
	case TagRFC822Name:
		at := strings.LastIndexByte(s, '@')
		// The last @ ends the local part; at neither end can there be nothing.
		if at <= 0 || at == len(s)-1 || strings.ContainsAny(s, " <>") {
			return errors.New("not of the form local@domain")
		}
	case TagURI:
		u, err := url.Parse(s)
		if err != nil {
			return errors.New("does not parse as a URI")
		}
		// RFC 5280, 4.2.1.6: a relative URI has no meaning in a certificate.
		if u.Scheme == "" {
			return errors.New("URI without a scheme")
		}
	case TagDNSName:
		// A blank or an @ in a host name is a sign of a name of another kind.
		if strings.ContainsAny(s, " @/\\") {
			return errors.New("not a host name")
		}
	}
	return nil
}

// String returns the name for logs: "URI:http://...", with what is not printable quoted.
func (n GeneralName) String() string {
	switch n.Tag {
	case TagOtherName:
		return "otherName:" + n.OtherOID.String()
	case TagRFC822Name:
		return fmt.Sprintf("email:%+q", n.Text)
	case TagDNSName:
		return fmt.Sprintf("DNS:%+q", n.Text)
	case TagDirectoryName:
		return "dirName:" + n.Name.RFC4514()
	case TagURI:
		return fmt.Sprintf("URI:%+q", n.Text)
	case TagIPAddress:
		return "IP:" + n.IP.String()
	case TagRegisteredID:
		return "RID:" + n.Text
	}
	return fmt.Sprintf("[%d]", n.Tag)
}
