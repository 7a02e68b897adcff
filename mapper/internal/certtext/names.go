package certtext

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"pam_pkcs11/internal/certinfo"
)

// SubjectTexts returns the forms in which a mapfile may have the subject's name: OpenSSL's one-line
// form, that of RFC 4514, and the one-line form as OpenSSL wrote it up to 1.1.1, with "/" and "+"
// in values as they are. The one-line forms are ambiguous: where another name could read the same
// they are left out.
func SubjectTexts(c *certinfo.Certificate) []certinfo.Text {
	if len(c.Subject) == 0 {
		return nil
	}

	var texts []certinfo.Text
	if OneLineIsSure(c.Subject) {
		texts = append(texts, certinfo.Text{Value: c.Subject.OneLine(), OK: true})
	}

	texts = append(texts, certinfo.Text{Value: c.Subject.RFC4514(), OK: true})
	if old, ok := OlderOneLine(c.Subject); ok {
		texts = append(texts, certinfo.Text{Value: old, OK: true})
	}
	return texts
}

// Universal tags of the string types that matter here (X.680, 8.6).
const (
	tagTeletexString = 20
	tagBitString     = 3
)

// OneLineIsSure reports whether no other name has the same one-line form. The form writes an octet
// that is not printable as \xHH and "/" as "\/", but a backslash as itself; and it does not
// distinguish string types.
func OneLineIsSure(n certinfo.Name) bool {
	for _, rdn := range n {
		for _, a := range rdn {
			switch {
			case !a.OK:
				return false
			case a.Tag == tagBitString, a.Tag == tagTeletexString && utf8.Valid(a.Raw) && !IsASCII(a.Raw):
				return false // a UTF8String with these octets would be written the same
			case hasEscape(a.Raw):
				return false
			}
		}
	}
	return true
}

// hasEscape reports whether a value has octets that the one-line form writes for others.
func hasEscape(raw []byte) bool {
	for _, escape := range []string{`\x`, `\/`, `\+`} {
		if bytes.Contains(raw, []byte(escape)) {
			return true
		}
	}
	return bytes.HasSuffix(raw, []byte(`\`))
}

// IsASCII reports whether there is no octet outside ASCII.
func IsASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// OlderOneLine returns the form of OpenSSL up to 1.1.1, where it differs and can be read back.
func OlderOneLine(n certinfo.Name) (string, bool) {
	text := n.OneLine()
	old := strings.NewReplacer(`\/`, `/`, `\+`, `+`).Replace(text)
	if old == text || !OneLineIsSure(n) {
		return "", false
	}

	// Several attributes of one relative name look like several names there.
	for _, rdn := range n {
		if len(rdn) != 1 {
			return "", false
		}
	}

	// With a "/" in a value the parts may come out differently: then it is another name's form.
	back, err := certinfo.ParseDN(old)
	return old, err == nil && back.Equal(n)
}

// Spaced writes a name of RFC 4514 with a blank behind each comma, as many tools do. No other name
// reads so: a blank at the beginning of a value is written "\\ ". The one-line form, which has no
// such commas, stays as it is.
func Spaced(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}

	var b strings.Builder
	for i := 0; i < len(name); i++ {
		b.WriteByte(name[i])
		switch {
		case name[i] == '\\' && i+1 < len(name):
			// An escaped comma is part of a value.
			i++
			b.WriteByte(name[i])
		case name[i] == ',':
			b.WriteByte(' ')
		}
	}
	return b.String()
}
