package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// checkAuthorities asks for quotes around each of several: a name has commas of its own, so several
// unquoted words are one name in pieces.
func checkAuthorities(words []scconf.Word) *Fault {
	for _, w := range words {
		if f := checkAuthority(w); f != nil {
			return f
		}
		if len(words) > 1 && !w.Quoted {
			return &Fault{w, "several authorities must each stand in quotes", ""}
		}
	}
	return nil
}

// keySumHint is how to find the number that names a key.
const keySumHint = "sha256 has 64 digits, of the key: openssl x509 -in CA.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum"

// checkAuthority reads the forms of one authority: a distinguished name, file:PATH, ski:HEX,
// sha256:HEX.
func checkAuthority(w scconf.Word) *Fault {
	kind, rest, _ := strings.Cut(w.Text, ":")
	switch kind {
	case "sha256", "ski":
		// openssl prints pairs of digits with colons between them. Only sha256 has a fixed length.
		octets, err := hex.DecodeString(strings.ReplaceAll(rest, ":", ""))
		if err != nil || len(octets) == 0 || kind == "sha256" && len(octets) != sha256.Size {
			return &Fault{w, finding.Quote(w.Text) + " is not " + kind +
				": with hexadecimal digits", keySumHint}
		}
	case "file":
		if !strings.HasPrefix(rest, "/") {
			return &Fault{w, finding.Quote(w.Text) + " is not file: with an absolute path",
				"write it as \"file:/etc/pam_pkcs11/issuing-ca.pem\""}
		}
	default:
		if !strings.Contains(w.Text, "=") {
			return &Fault{w, finding.Quote(w.Text) + " names no authority",
				"write a distinguished name in quotes, as \"CN=Example CA,O=Example\", or \"file:PATH\", \"ski:HEX\", \"sha256:HEX\""}
		}
	}
	return nil
}
