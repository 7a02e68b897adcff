package certtext

import (
	"pam_pkcs11/internal/certinfo"
)

// Usable returns the texts that may take part in a comparison.
func Usable(texts []certinfo.Text) []string {
	var values []string
	for _, t := range texts {
		if t.OK && t.Value != "" {
			values = append(values, t.Value)
		}
	}
	return values
}
