package mapfile

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/certtext"
)

// keyRule returns a function for the literal KEYs of a block: it returns why no certificate can
// have such a text; "" where one could.
func keyRule(s mappers.Settings) func(string) string {
	rule := itemRule(s)
	return func(key string) string {
		if text := characterFault(key); text != "" {
			return text
		}
		return rule(key)
	}
}

// itemOf returns the item of a block whose lines may be written in several ways; "" is another one.
func itemOf(s mappers.Settings) string {
	switch s := s.(type) {
	case mappers.Digest:
		return "digest"
	case mappers.Subject:
		return "subject"
	case mappers.Serial:
		return "serial"
	case mappers.Generic:
		return s.Item
	}
	return ""
}

// characterFault returns why a text is never compared: it is not UTF-8, or has a control character.
func characterFault(key string) string {
	if !utf8.ValidString(key) {
		return fmt.Sprintf("%q is not UTF-8, and fits no certificate", key)
	}
	for _, r := range key {
		if unicode.IsControl(r) {
			return fmt.Sprintf("%q has a control character in it (a tab?), and fits no certificate", key)
		}
	}
	return ""
}

// itemRule returns the rule for what the block takes from a certificate.
func itemRule(s mappers.Settings) func(string) string {
	switch s := s.(type) {
	case mappers.Digest:
		return digestRule(s.Algorithm)
	case mappers.Subject:
		return func(key string) string { return nameFault(key, s.IgnoreCase) }
	case mappers.Serial:
		return func(key string) string { return serialFault(key, s.Alone) }
	case mappers.UPN:
		return upnFault
	case mappers.Mail:
		return mailFault
	case mappers.Generic:
		return genericRule(s)
	}
	return func(string) string { return "" }
}

func genericRule(s mappers.Generic) func(string) string {
	switch s.Item {
	case "subject":
		return func(key string) string { return nameFault(key, s.IgnoreCase) }
	case "serial":
		return func(key string) string { return pairsFault(key, s.IgnoreCase) }
	case "upn":
		return upnFault
	case "email":
		return mailFault
	}
	return func(string) string { return "" }
}

func upnFault(key string) string {
	if strings.Contains(key, " ") {
		return fmt.Sprintf("%q has a blank in it, which no user principal name has", key)
	}
	return ""
}

func mailFault(key string) string {
	if !strings.Contains(key, "@") || strings.ContainsAny(key, " \t") {
		return fmt.Sprintf("%q is no mail address, and fits no certificate", key)
	}
	return ""
}

// digestRule returns the rule for fingerprints: they have the length of their algorithm; "" is any.
func digestRule(algorithm string) func(string) string {
	return func(key string) string {
		name, sum := "", key

		// As openssl x509 -fingerprint prints it: "SHA256 Fingerprint=AB:CD:...".
		if before, after, found := strings.Cut(key, "="); found {
			name = strings.ToLower(strings.TrimSuffix(strings.ToLower(before), " fingerprint"))
			if !strings.HasSuffix(strings.ToLower(before), " fingerprint") || certtext.Digests[name] == 0 {
				return fmt.Sprintf("%q is no fingerprint", key)
			}
			sum = after
		}

		octets, err := hex.DecodeString(strings.ReplaceAll(sum, ":", ""))
		if err != nil || strings.Contains(sum, ":") && !strings.EqualFold(sum, certtext.Colons(octets)) {
			return fmt.Sprintf("%q is no fingerprint: hexadecimal digits, in pairs joined by colons or without blanks and colons", key)
		}

		// Both the block and the line may name an algorithm: the length must fit each of them.
		for _, wanted := range []string{algorithm, name} {
			if h := certtext.Digests[wanted]; h != 0 && len(octets) != h.Size() {
				return fmt.Sprintf("a fingerprint of %d octets; %s has %d", len(octets), wanted, h.Size())
			}
		}

		for _, h := range certtext.Digests {
			if len(octets) == h.Size() {
				return ""
			}
		}
		return fmt.Sprintf("a fingerprint of %d octets, which no algorithm has", len(octets))
	}
}

// nameFault returns why a text is no distinguished name in a form in which one is looked up.
func nameFault(key string, ignoreCase bool) string {
	lead, _, _ := strings.Cut(key, "=")
	switch {
	case slices.Contains([]string{"subject", "issuer"}, strings.ToLower(strings.TrimSpace(lead))):
		return fmt.Sprintf("%q: leave %q out, it is no part of the name", key, lead+"=")
	case strings.Contains(key, " = "):
		return fmt.Sprintf("%q fits no certificate: write the name as openssl x509 -noout -subject -nameopt RFC2253 prints it", key)
	}

	name, err := certinfo.ParseDN(key)
	if err != nil {
		return fmt.Sprintf("%q is no distinguished name: %v", key, err)
	}
	return blanksFault(key, nameForms(name), ignoreCase)
}

// nameForms returns the ways to write a name that a look-up knows.
func nameForms(name certinfo.Name) []string {
	forms := []string{name.RFC4514(), certtext.Spaced(name.RFC4514()), name.OneLine()}
	if older, ok := certtext.OlderOneLine(name); ok {
		forms = append(forms, older)
	}
	return forms
}

// blanksFault returns that a KEY is one of the forms but for its blanks, and so fits nothing; ""
// where it is one of them or none.
func blanksFault(key string, forms []string, ignoreCase bool) string {
	if slices.ContainsFunc(forms, func(f string) bool { return certtext.Equal(f, key, ignoreCase) }) {
		return ""
	}
	noBlanks := strings.NewReplacer(" ", "")
	for _, f := range forms {
		if certtext.Equal(noBlanks.Replace(f), noBlanks.Replace(key), ignoreCase) {
			return fmt.Sprintf("%q fits no certificate, its blanks are not where a name has them: write %q", key, f)
		}
	}
	return ""
}

// serialNumber is a number in one of the forms of certtext.SerialTexts.
var serialNumber = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^-?([0-9]+|0[xX][0-9a-fA-F]+|(0[xX])?[0-9a-fA-F]{2}(:[0-9a-fA-F]{2})*|[0-9a-fA-F]+)$`)
})

// serialFault returns why a text is no serial number with its issuer's name, or alone.
func serialFault(key string, alone bool) string {
	number, issuer, _ := strings.Cut(key, " ")
	switch {
	case !serialNumber().MatchString(number):
		return fmt.Sprintf("%q is no serial number", number)
	case strings.HasPrefix(issuer, " "):
		return "one blank stands between the serial number and the issuer's name, not several"
	case issuer != "":
		return nameFault(issuer, true)
	case !alone:
		return "a serial number without the issuer's name counts only in a block with one issuer"
	}
	return serialFormFault(number)
}

// serialFormFault returns that a number is not written in a way in which numbers are looked up.
func serialFormFault(number string) string {
	digits := strings.NewReplacer(":", "", "0x", "", "0X", "").Replace(number)

	// Decimal or hexadecimal: one of the two readings must be written as this very text.
	for _, base := range []int{10, 16} {
		n, ok := new(big.Int).SetString(digits, base)
		if !ok {
			continue
		}
		texts := certtext.SerialTexts(&certinfo.Certificate{Serial: n})
		if slices.ContainsFunc(texts, func(t string) bool { return certtext.Equal(t, number, true) }) {
			return ""
		}
	}
	return fmt.Sprintf("%q is not how the number of a certificate is written: 431, 0x1AF or 01:AF", number)
}

// serialPairs is a number in the form of the generic mapper.
var serialPairs = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^-?[0-9A-F]{2}(:[0-9A-F]{2})*$`)
})

func pairsFault(key string, ignoreCase bool) string {
	pairs := key
	if ignoreCase {
		pairs = strings.ToUpper(key)
	}
	if !serialPairs().MatchString(pairs) {
		return fmt.Sprintf("%q fits no certificate: here a serial number is written as 01:AF", key)
	}
	return ""
}
