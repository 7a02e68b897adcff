package certtext

import (
	"strings"

	"pam_pkcs11/internal/certinfo"
)

// SerialTexts returns the ways to write a serial number: decimal; hexadecimal with 0x; in pairs
// joined by colons, as openssl x509 -text prints it; and without either, as openssl x509 -serial
// does. No two numbers share a text: pairs are left out where there is only one, and bare digits
// where they could be decimal.
func SerialTexts(cert *certinfo.Certificate) []string {
	sign := ""
	magnitude := cert.SerialHex("")
	if rest, negative := strings.CutPrefix(magnitude, "-"); negative {
		sign = "-"
		magnitude = rest
	}

	texts := []string{cert.Serial.String(), sign + "0x" + magnitude}
	if short := strings.TrimLeft(magnitude, "0"); short != "" && short != magnitude {
		texts = append(texts, sign+"0x"+short)
	}

	// A single pair without a colon could be a decimal number.
	if len(magnitude) > 2 {
		pairs := strings.TrimPrefix(cert.SerialHex(":"), "-")
		texts = append(texts, sign+pairs, sign+"0x"+pairs)
	}

	// Other digits could be those of a decimal number.
	if strings.ContainsAny(magnitude, "ABCDEF") || magnitude[0] == '0' {
		texts = append(texts, sign+magnitude)
	}
	return texts
}
