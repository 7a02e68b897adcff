package schema

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/mappers"
)

var digests = []string{"sha1", "sha224", "sha256", "sha384", "sha512"}

// convertDigest takes the name of a digest. The C module took SHA-1 for one that it did not know.
func convertDigest(v *Value, w scconf.Word, oldReading *string) *Fault {
	name := strings.ReplaceAll(strings.ToLower(w.Text), "-", "")

	switch name {
	case "":
		v.Texts = nil
		return nil
	case "sha", "dss", "dss1":
		*oldReading = finding.Quote(w.Text) + " means sha1"
		name = "sha1"
	// Two certificates with the same MD5 sum can be made at will: one could stand for the other.
	case "null", "md2", "md4", "md5", "mdc2", "ripemd160", "rmd160":
		return &Fault{w, "the digest " + finding.Quote(w.Text) +
			" is too weak to tell certificates apart", "write the mapfile anew with sha256"}
	}

	if !slices.Contains(digests, name) {
		// Refused: with SHA-1 in its place no sum of the mapfile would ever match.
		hint := finding.DidYouMean(name, digests)
		if hint == "" {
			hint = "the C module took sha1 for it"
		}
		return &Fault{w, "unknown digest " + finding.Quote(w.Text), hint}
	}

	v.Texts = []string{name}
	return nil
}

// convertMapfile makes a URL of what is written. A path without a scheme found no file in the C
// module.
func convertMapfile(v *Value, w scconf.Word, oldReading *string) *Fault {
	switch text := w.Text; {
	case text == "" || strings.EqualFold(text, "none"):
		v.Texts = nil
	case filepath.IsAbs(text):
		*oldReading = "the C module found no file by a path without file://"
		v.Texts = []string{"file://" + text}
	default:
		// Other URLs stay as they are written.
		scheme, rest, found := strings.Cut(text, ":")
		scheme = strings.ToLower(scheme)
		if !found || !slices.Contains([]string{"file", "https", "http", "ldap", "ldaps", "ldapi"},
			scheme) {
			return &Fault{w, finding.Quote(text) + " is not a mapfile",
				"write file:///path or none"}
		}

		if scheme != "file" {
			return nil
		}

		path := strings.TrimPrefix(rest, "//")
		// file://host/path would name a file of another computer.
		if !filepath.IsAbs(path) || strings.HasPrefix(path, "//") {
			return &Fault{w, finding.Quote(text) + " does not name an absolute path",
				"write file:///path"}
		}
		v.Texts = []string{"file://" + path}
	}
	return nil
}

// convertTLSMode takes off, tls or ssl. The C module looked at how the word began, in any case.
func convertTLSMode(v *Value, w scconf.Word, oldReading *string) *Fault {
	switch text := strings.ToLower(w.Text); {
	case text == "":
		v.Texts = nil
	case strings.HasPrefix(text, "tls"):
		v.Texts = []string{"tls"}
	// The C module asked without encryption here, for somebody who meant TLS.
	case slices.Contains([]string{"starttls", "start_tls", "start-tls"}, text):
		v.Texts = []string{"tls"}
		*oldReading = "the C module took " + finding.Quote(w.Text) + " for off"
	case strings.HasPrefix(text, "on"), strings.HasPrefix(text, "ssl"), text == "ldaps":
		v.Texts = []string{"ssl"}
	case slices.Contains([]string{"off", "no", "false", "none", "0"}, text):
		v.Texts = []string{"off"}
	default:
		return &Fault{w, "ssl is off, tls or ssl, not " + finding.Quote(w.Text),
			finding.DidYouMean(text, []string{"off", "tls", "ssl", "on"})}
	}
	return nil
}

const maxPattern = 1024

func convertPattern(v *Value, w scconf.Word) *Fault {
	if w.Text == "" {
		return nil
	}
	if len(w.Text) > maxPattern {
		return &Fault{w, "the regular expression is too long", ""}
	}

	// Alone first, so that `a)|(b` does not become sound by the brackets around it.
	if _, err := regexp.Compile(w.Text); err != nil {
		return &Fault{w, err.Error(), ""}
	}

	// Anchored at both ends, as Values.Pattern promises: a part that matches is not enough.
	re, err := regexp.Compile(patternBegin + w.Text + patternEnd)
	if err != nil {
		return &Fault{w, err.Error(), ""}
	}

	v.re = re
	return nil
}

// What anchors a pattern at both ends.
const (
	patternBegin = `\A(?:`
	patternEnd   = `)\z`
)

// PatternText is a pattern as it was written.
func PatternText(p *regexp.Regexp) string {
	return strings.TrimSuffix(strings.TrimPrefix(p.String(), patternBegin), patternEnd)
}

// checkConditions reads every value of attribute_map.
func checkConditions(words []scconf.Word) *Fault {
	for _, w := range words {
		if _, err := mappers.ParseConditions(w.Text); err != nil {
			return &Fault{w, err.Error(), ""}
		}
	}
	return nil
}

// checkQuoted asks for quotes around each of several names: a name has commas of its own, so
// several unquoted words are one name in pieces.
func checkQuoted(words []scconf.Word) *Fault {
	for _, w := range words {
		if len(words) > 1 && !w.Quoted {
			return &Fault{w, "several distinguished names must each stand in quotes",
				"one name with commas stands in one pair of quotes"}
		}
	}
	return nil
}

// maxBases bounds the searches of one question to a directory.
const maxBases = 10

// checkBases reads names of entries below which to search. A single "" is the root of a directory.
func checkBases(words []scconf.Word) *Fault {
	if len(words) == 1 && words[0].Text == "" {
		return nil
	}
	if len(words) > maxBases {
		return &Fault{words[maxBases],
			fmt.Sprintf("here are %d bases, at most %d are allowed", len(words), maxBases), ""}
	}
	if f := checkQuoted(words); f != nil {
		return f
	}

	for _, w := range words {
		// Every distinguished name has a type and a value: "people" is a slip, and finds nobody.
		if !strings.Contains(w.Text, "=") {
			return &Fault{w, finding.Quote(w.Text) + " is not a distinguished name",
				"write each name in quotes, as \"ou=People,o=Example\""}
		}
	}
	return nil
}

// purposes are names of RFC 5280 4.2.1.12 and Microsoft's smart card logon.
var purposes = map[string]string{
	"serverAuth":          "1.3.6.1.5.5.7.3.1",
	"clientAuth":          "1.3.6.1.5.5.7.3.2",
	"codeSigning":         "1.3.6.1.5.5.7.3.3",
	"emailProtection":     "1.3.6.1.5.5.7.3.4",
	"smartcardLogon":      "1.3.6.1.4.1.311.20.2.2",
	"pkinitClientAuth":    "1.3.6.1.5.2.3.4",
	"anyExtendedKeyUsage": "2.5.29.37.0",
}

var oidShape = sync.OnceValue(
	func() *regexp.Regexp { return regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]{0,17})){1,32}$`) })

// convertPurposes replaces names by object identifiers. The one word ignore stays as it is.
func convertPurposes(v *Value, words []scconf.Word) *Fault {
	for i, w := range words {
		if w.Text == "ignore" {
			// Beside a purpose it could be meant either way: to check that purpose, or to check
			// none.
			if len(words) > 1 {
				return &Fault{w, "ignore contradicts the other words of eku", ""}
			}
			return nil
		}
		if oidShape().MatchString(w.Text) {
			continue
		}

		names := []string{"ignore"}
		// Text that no purpose replaced is unknown.
		for name, oid := range purposes {
			if scconf.SameKey(name, w.Text) {
				v.Texts[i] = oid
			}
			names = append(names, name)
		}

		if v.Texts[i] == w.Text {
			slices.Sort(names)
			hint := finding.DidYouMean(w.Text, names)
			if hint == "" {
				hint = "ignore, an object identifier, or one of " + strings.Join(names, ", ")
			}
			return &Fault{w, "unknown extended key usage " + finding.Quote(w.Text), hint}
		}
	}
	return nil
}

// isVariable reports whether s is NAME=value, the name of letters, digits and _ and not beginning
// with a digit.
func isVariable(s string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"

	name, _, ok := strings.Cut(s, "=")
	return ok && name != "" && strings.IndexByte(letters, name[0]) >= 0 &&
		strings.Trim(name, letters+"0123456789") == ""
}

func checkEnvironment(words []scconf.Word) *Fault {
	for _, w := range words {
		if !isVariable(w.Text) {
			return &Fault{w, finding.Quote(w.Text) + " is not NAME=value", ""}
		}
	}
	return nil
}

func checkOIDs(words []scconf.Word) *Fault {
	for _, w := range words {
		if !oidShape().MatchString(w.Text) {
			return &Fault{w, finding.Quote(w.Text) + " is not an object identifier",
				"write numbers with dots between them"}
		}
	}
	return nil
}
