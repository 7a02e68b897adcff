package certmap

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/activedirectory"
)

// A mapping rule is text with templates in braces, each of which takes something out of the
// certificate: {subject_rfc822_name.short_name}, {serial_number!hex_ur}. "{{" and "}}" are braces.

// template is one {...} expression of a mapping rule.
type template struct {
	text   string // without the braces
	values func(*certinfo.Certificate) (value []byte, ok bool)
	isCert bool // the whole certificate as octets
}

// piece is a text, or a template.
type piece struct {
	text     string
	template *template
}

// maxTemplates bounds one rule.
const maxTemplates = 32

// parsePieces cuts a mapping rule at its templates. A template always stands between two texts,
// which may be empty.
func parsePieces(text string, u1 bool) ([]piece, error) {
	var pieces []piece
	var plain strings.Builder
	count := 0

	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case (c == '{' || c == '}') && i+1 < len(text) && text[i+1] == c:
			plain.WriteByte(c)
			i++
		case c == '}':
			return nil, errors.New(`"}" without "{"; a brace itself is written twice`)
		case c == '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return nil, errors.New(`"{" without "}"; a brace itself is written twice`)
			}
			t, err := parseTemplate(text[i+1:i+end], u1)
			if err != nil {
				return nil, fmt.Errorf("{%s}: %w", text[i+1:i+end], err)
			}

			// Each template may write the whole certificate into the filter.
			if count++; count > maxTemplates {
				return nil, fmt.Errorf("more than %d templates", maxTemplates)
			}

			pieces = append(pieces, piece{text: plain.String()}, piece{template: t})
			plain.Reset()
			i += end
		default:
			plain.WriteByte(c)
		}
	}
	return append(pieces, piece{text: plain.String()}), nil
}

// templateShape is a template's name with what may follow it.
var templateShape = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9_]+)(?:\.([A-Za-z0-9_.-]*))?(?:\[(-?[0-9]{1,3})\])?(?:!([A-Za-z0-9_]+))?$`)
})

// selector is what follows a template's name.
type selector struct {
	part       string // after "."
	dotted     bool   // there is a "."
	number     int    // in brackets
	numbered   bool
	conversion string // after "!"
}

// parseTemplate reads what stands between the braces; u1 allows the templates of LDAPU1.
func parseTemplate(text string, u1 bool) (*template, error) {
	m := templateShape().FindStringSubmatch(text)
	if m == nil {
		return nil, errors.New("is no template")
	}

	s := selector{
		part:       m[2],
		dotted:     strings.Contains(text, "."),
		numbered:   m[3] != "",
		conversion: m[4],
	}
	if s.numbered {
		s.number, _ = strconv.Atoi(m[3]) // templateShape has at most three digits
	}

	extract, known := templates[m[1]]
	if !known {
		extract, known = templatesU1[m[1]]
		if known && !u1 {
			return nil, errors.New("is of LDAPU1, with which the rule must begin")
		}
	}
	if !known {
		return nil, errors.New("there is no such template")
	}

	isWhole := s.conversion == "" || s.conversion == "bin"
	t := &template{text: text, isCert: m[1] == "cert" && isWhole}
	var err error
	t.values, err = extract(s, u1)
	return t, err
}

// extractor takes something out of a certificate; ok is false where the certificate has none.
type extractor = func(*certinfo.Certificate) ([]byte, bool)

// templates are the templates of LDAP rules.
var templates = map[string]func(selector, bool) (extractor, error){
	"issuer_dn":  nameTemplate(func(c *certinfo.Certificate) (certinfo.Name, bool) { return c.Issuer, true }),
	"subject_dn": nameTemplate(func(c *certinfo.Certificate) (certinfo.Name, bool) { return c.Subject, true }),
	"subject_directory_name": nameTemplate(func(c *certinfo.Certificate) (certinfo.Name, bool) {
		n, ok := firstName(c, certinfo.TagDirectoryName)
		return n.Name, ok
	}),
	"cert":                     certTemplate,
	"subject_principal":        textTemplate("@", firstPrincipal),
	"subject_pkinit_principal": textTemplate("@", first((*certinfo.Certificate).KerberosPrincipals)),
	"subject_nt_principal":     textTemplate("@", first((*certinfo.Certificate).UPNs)),
	"subject_rfc822_name":      textTemplate("@", first((*certinfo.Certificate).Emails)),
	"subject_dns_name":         textTemplate(".", first((*certinfo.Certificate).DNSNames)),
	"subject_uri":              textTemplate("", first((*certinfo.Certificate).URIs)),
	"subject_ip_address":       textTemplate("", firstText(certinfo.TagIPAddress)),
	"subject_registered_id":    textTemplate("", firstText(certinfo.TagRegisteredID)),
	"subject_x400_address":     octetsTemplate(certinfo.TagX400Address),
	"subject_ediparty_name":    octetsTemplate(certinfo.TagEDIPartyName),
}

// templatesU1 are the templates that LDAPU1 adds.
var templatesU1 = map[string]func(selector, bool) (extractor, error){
	"serial_number":        serialTemplate,
	"subject_key_id":       keyIDTemplate,
	"sid":                  sidTemplate,
	"subject_dn_component": componentTemplate(func(c *certinfo.Certificate) certinfo.Name { return c.Subject }),
	"issuer_dn_component":  componentTemplate(func(c *certinfo.Certificate) certinfo.Name { return c.Issuer }),
}

// first takes the first text, as SSSD does. Where that must not be compared there is none: taking
// the next would name somebody else.
func first(texts func(*certinfo.Certificate) []certinfo.Text) func(*certinfo.Certificate) (string, bool) {
	return func(c *certinfo.Certificate) (string, bool) {
		list := texts(c)
		if len(list) == 0 {
			return "", false
		}
		return list[0].Value, list[0].OK && list[0].Value != ""
	}
}

// firstPrincipal takes the first Kerberos principal or principal name of Microsoft's, in the
// certificate's order.
func firstPrincipal(c *certinfo.Certificate) (string, bool) {
	for _, n := range c.SANs {
		if n.Tag != certinfo.TagOtherName {
			continue
		}
		// No other of its kind came before this one: it is the first.
		switch {
		case n.OtherOID.Equal(certinfo.OIDUPN):
			return first((*certinfo.Certificate).UPNs)(c)
		case n.OtherOID.Equal(certinfo.OIDKRB5PrincipalName):
			return first((*certinfo.Certificate).KerberosPrincipals)(c)
		}
	}
	return "", false
}

func firstName(c *certinfo.Certificate, tag int) (certinfo.GeneralName, bool) {
	i := slices.IndexFunc(c.SANs, func(n certinfo.GeneralName) bool { return n.Tag == tag })
	if i < 0 {
		return certinfo.GeneralName{}, false
	}
	return c.SANs[i], c.SANs[i].OK
}

func firstText(tag int) func(*certinfo.Certificate) (string, bool) {
	return func(c *certinfo.Certificate) (string, bool) {
		n, ok := firstName(c, tag)
		if !ok {
			return "", false
		}
		return nameAsText(n)
	}
}

// textTemplate takes a text; with short_name what stands before the separator, where there is one.
func textTemplate(
	separator string, text func(*certinfo.Certificate) (string, bool),
) func(selector, bool) (extractor, error) {
	return func(s selector, _ bool) (extractor, error) {
		short := separator != "" && s.part == "short_name"
		hasOther := s.conversion != "" || s.numbered
		if s.dotted && !short || hasOther {
			return nil, errors.New("takes nothing behind its name but, where there is a short name, .short_name")
		}

		return func(c *certinfo.Certificate) ([]byte, bool) {
			value, ok := text(c)
			if short {
				value, _, _ = strings.Cut(value, separator)
			}
			return []byte(value), ok && value != ""
		}, nil
	}
}

func octetsTemplate(tag int) func(selector, bool) (extractor, error) {
	return func(s selector, _ bool) (extractor, error) {
		if s != (selector{}) {
			return nil, errors.New("takes nothing behind its name")
		}
		return func(c *certinfo.Certificate) ([]byte, bool) {
			n, ok := firstName(c, tag)
			return n.Raw, ok && len(n.Raw) > 0
		}, nil
	}
}

// nameTemplate writes a distinguished name in one of sss-certmap's forms.
func nameTemplate(name func(*certinfo.Certificate) (certinfo.Name, bool)) func(selector, bool) (extractor, error) {
	return func(s selector, _ bool) (extractor, error) {
		var write func(certinfo.Name) string
		switch s.conversion {
		case "", "nss", "nss_ldap":
			write = func(n certinfo.Name) string { return plainName(n, false) }
		case "nss_x500":
			write = func(n certinfo.Name) string { return plainName(n, true) }
		case "ad", "ad_x500":
			write = func(n certinfo.Name) string { return activedirectory.WindowsName(n, true) }
		case "ad_ldap":
			write = func(n certinfo.Name) string { return activedirectory.WindowsName(n, false) }
		default:
			return nil, fmt.Errorf("there is no form %q, expected ad, ad_x500, ad_ldap, nss, nss_x500 or nss_ldap", s.conversion)
		}

		if s.dotted || s.numbered {
			return nil, errors.New("takes only a form behind its name")
		}

		return func(c *certinfo.Certificate) ([]byte, bool) {
			n, ok := name(c)
			text := write(n)
			return []byte(text), ok && text != ""
		}, nil
	}
}

// plainName writes a name as RFC 4514 does, with the name that NSS has for mail addresses; "" where
// a part is no text.
func plainName(n certinfo.Name, x500 bool) string {
	return activedirectory.NameText(n, x500, "+", func(a certinfo.Attribute) (string, bool) {
		text := certinfo.Name{certinfo.RDN{a}}.RFC4514()
		// The types whose names differ between RFC 4514 and NSS.
		for from, to := range map[string]string{"street=": "STREET=", "emailAddress=": "E="} {
			if rest, found := strings.CutPrefix(text, from); found {
				text = to + rest
			}
		}
		return text, a.OK
	})
}
