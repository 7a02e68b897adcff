package path

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"slices"
	"unicode/utf16"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"pam_pkcs11/verify/internal/refusal"
)

// The forms in which certificates stand in a file of ca_dir: DER, several one after the other; PEM
// with other text around it, as OpenSSL, Windows and browsers label it; PKCS#7 in both; with a byte
// order mark, and in UTF-16.

// caEntry is one certificate of a file.
type caEntry struct {
	der     []byte
	trust   trustSettings
	newForm string // the form, where releases before this one did not read it; else ""
}

// caFile is what a file holds.
type caFile struct {
	entries  []caEntry
	other    []string // what else is in it that is well-formed
	problems []string
}

// Names of forms, for findings.
const (
	formTrusted = "a TRUSTED CERTIFICATE of OpenSSL"
	formPKCS7   = "PKCS#7"
	formMark    = "text with a byte order mark"
	formUTF16   = "text in UTF-16"
)

// What a file may hold beside certificates, and what may be used through crl_dir.
const (
	otherCRL    = "a CRL"
	otherPEMCRL = "a PEM block X509 CRL"
)

// readCAFile takes a file apart. The certificates are not parsed.
func readCAFile(data []byte) *caFile {
	f := &caFile{}
	if len(data) > 0 && data[0] == 0x30 {
		f.readDER(data)
		return f
	}

	// Everything that is not DER is text, with PEM blocks somewhere in it.
	text, form := plainText(data)
	f.readPEM(text)

	if form != "" {
		f.markNew(data, form)
	}
	return f
}

// readDER reads elements one after the other.
func (f *caFile) readDER(data []byte) {
	rest := cryptobyte.String(data)
	for !rest.Empty() {
		var element cryptobyte.String
		if !rest.ReadASN1Element(&element, asn1.SEQUENCE) {
			// Not even one element: the octets go on to be parsed for the message alone.
			if len(f.entries) == 0 {
				f.entries = append(f.entries, caEntry{der: rest})
				return
			}

			f.problem("%d octets behind the last certificate are not read", len(rest))
			return
		}

		if looksLikeCRL(element) {
			f.other = append(f.other, otherCRL)
			continue
		}

		f.add(element, "")
	}
}

// readPEM reads the blocks of a text. What cannot be a block is other text.
func (f *caFile) readPEM(data []byte) {
	// pem.Decode skips a damaged block without a word, so the beginnings are counted beside it.
	begun := bytes.Count(data, []byte("-----BEGIN "))
	read := 0

	for len(data) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		read++

		switch block.Type {
		case pemCertificate, "X509 CERTIFICATE":
			f.add(block.Bytes, "")
		case "TRUSTED CERTIFICATE":
			f.addTrusted(block.Bytes)
		case "PKCS7", "PKCS #7 SIGNED DATA", "CMS":
			f.addPKCS7(block.Bytes)
		default:
			f.other = append(f.other, "a PEM block "+refusal.Clip(block.Type))
		}
	}

	if read > 0 && read < begun {
		f.problem("%d of %d PEM blocks cannot be read", begun-read, begun)
	}
}

// add takes one element that is a certificate, or, whatever its label says, PKCS#7: Windows labels
// both alike.
func (f *caFile) add(der []byte, form string) {
	if isPKCS7(der) {
		f.addPKCS7(der)
		return
	}
	f.entries = append(f.entries, caEntry{der: der, newForm: form})
}

func (f *caFile) addPKCS7(der []byte) {
	certs, err := pkcs7Certificates(der)
	if err != nil {
		f.problem("%v", err)
		return
	}

	for _, c := range certs {
		f.entries = append(f.entries, caEntry{der: c, newForm: formPKCS7})
	}
}

func (f *caFile) addTrusted(der []byte) {
	cert, trust, err := splitTrusted(der)
	if err != nil {
		f.problem("%v", err)
		return
	}
	f.entries = append(f.entries, caEntry{der: cert, trust: trust, newForm: formTrusted})
}

func (f *caFile) problem(format string, args ...any) {
	if len(f.problems) < maxCAProblems {
		f.problems = append(f.problems, fmt.Sprintf(format, args...))
	}
}

// markNew names the form of the certificates that are found only because of it: not in the octets
// as they stand.
func (f *caFile) markNew(data []byte, form string) {
	var before caFile
	before.readPEM(data)

	for i := range f.entries {
		e := &f.entries[i]
		known := slices.ContainsFunc(before.entries, func(b caEntry) bool { return bytes.Equal(b.der, e.der) })
		if !known && e.newForm == "" {
			e.newForm = form
		}
	}
}

var utf8Mark = []byte("\xef\xbb\xbf")

// plainText returns a text without byte order marks, also those of files that were put together,
// and in one octet for each character. form is "" when the text was like that.
func plainText(data []byte) (text []byte, form string) {
	switch {
	// Without a mark, the zeros beside the dashes of a PEM block show the order of the octets.
	case bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("-\x00-\x00")):
		return fromUTF16(data, 0), formUTF16
	case bytes.HasPrefix(data, []byte("\xfe\xff")) || bytes.HasPrefix(data, []byte("\x00-\x00-")):
		return fromUTF16(data, 1), formUTF16
	case bytes.Contains(data, utf8Mark):
		return bytes.ReplaceAll(data, utf8Mark, nil), formMark
	}
	return data, ""
}

// fromUTF16 turns UTF-16 into UTF-8; low is the place of the lower octet of each pair. An octet too
// many is left out.
func fromUTF16(data []byte, low int) []byte {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = uint16(data[2*i+low]) | uint16(data[2*i+1-low])<<8
	}
	// Files that were put together have marks in the middle, too.
	return bytes.ReplaceAll([]byte(string(utf16.Decode(units))), utf8Mark, nil)
}
