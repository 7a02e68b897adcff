package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"pam_pkcs11/config/mappers"
)

var digests = []string{"sha1", "sha224", "sha256", "sha384", "sha512"}

// convertDigest: an algorithm that the C module did not know was SHA-1 for it.
func convertDigest(v *value, w Word, odd *string) *fault {
	name := strings.ReplaceAll(strings.ToLower(w.Text), "-", "")
	switch name {
	case "":
		v.texts = nil
		return nil
	case "sha", "dss", "dss1":
		*odd = quote(w.Text) + " means sha1"
		name = "sha1"
	case "null", "md2", "md4", "md5", "mdc2", "ripemd160", "rmd160":
		return &fault{w, "the digest " + quote(w.Text) + " is too weak to tell certificates apart", "write the mapfile anew with sha256"}
	}
	if !slices.Contains(digests, name) {
		hint := didYouMean(name, digests)
		if hint == "" {
			hint = "the C module took sha1 for it"
		}
		return &fault{w, "unknown digest " + quote(w.Text), hint}
	}
	v.texts = []string{name}
	return nil
}

// convertMapfile makes a URL of what is written. A path without a scheme found no file in the C module.
func convertMapfile(v *value, w Word, odd *string) *fault {
	switch text := w.Text; {
	case text == "" || strings.EqualFold(text, "none"):
		v.texts = nil
	case filepath.IsAbs(text):
		*odd = "the C module found no file by a path without file://"
		v.texts = []string{"file://" + text}
	default:
		scheme, rest, found := strings.Cut(text, ":")
		scheme = strings.ToLower(scheme)
		if !found || !slices.Contains([]string{"file", "https", "http", "ldap", "ldaps", "ldapi"}, scheme) {
			return &fault{w, quote(text) + " is not a mapfile", "write file:///path or none"}
		}
		if scheme != "file" {
			return nil
		}
		path := strings.TrimPrefix(rest, "//")
		if !filepath.IsAbs(path) || strings.HasPrefix(path, "//") {
			return &fault{w, quote(text) + " does not name an absolute path", "write file:///path"}
		}
		v.texts = []string{"file://" + path}
	}
	return nil
}

// convertTLSMode: the C module looked at how the word began, in any case.
func convertTLSMode(v *value, w Word, odd *string) *fault {
	switch text := strings.ToLower(w.Text); {
	case text == "":
		v.texts = nil
	case strings.HasPrefix(text, "tls"):
		v.texts = []string{"tls"}
	case slices.Contains([]string{"starttls", "start_tls", "start-tls"}, text):
		v.texts = []string{"tls"}
		*odd = "the C module took " + quote(w.Text) + " for off"
	case strings.HasPrefix(text, "on"), strings.HasPrefix(text, "ssl"), text == "ldaps":
		v.texts = []string{"ssl"}
	case slices.Contains([]string{"off", "no", "false", "none", "0"}, text):
		v.texts = []string{"off"}
	default:
		return &fault{w, "ssl is off, tls or ssl, not " + quote(w.Text), didYouMean(text, []string{"off", "tls", "ssl", "on"})}
	}
	return nil
}

const maxPattern = 1024

func convertPattern(v *value, w Word) *fault {
	if w.Text == "" {
		return nil
	}
	if len(w.Text) > maxPattern {
		return &fault{w, "the regular expression is too long", ""}
	}
	// Alone first, so that `a)|(b` does not become sound by the brackets around it.
	if _, err := regexp.Compile(w.Text); err != nil {
		return &fault{w, err.Error(), ""}
	}
	re, err := regexp.Compile(`\A(?:` + w.Text + `)\z`)
	if err != nil {
		return &fault{w, err.Error(), ""}
	}
	v.re = re
	return nil
}

// checkConditions reads every value of attribute_map.
func checkConditions(words []Word) *fault {
	for _, w := range words {
		if _, err := mappers.ParseConditions(w.Text); err != nil {
			return &fault{w, err.Error(), ""}
		}
	}
	return nil
}

// checkQuoted: a name has commas of its own, so several unquoted words are one name in pieces.
func checkQuoted(words []Word) *fault {
	for _, w := range words {
		if len(words) > 1 && !w.Quoted {
			return &fault{w, "several distinguished names must each stand in quotes", "one name with commas stands in one pair of quotes"}
		}
	}
	return nil
}

// maxBases bounds the searches of one question to a directory.
const maxBases = 10

// checkBases: one base may be "", the root of a directory.
func checkBases(words []Word) *fault {
	if len(words) == 1 && words[0].Text == "" {
		return nil
	}
	if len(words) > maxBases {
		return &fault{words[maxBases], fmt.Sprintf("here are %d bases, at most %d are allowed", len(words), maxBases), ""}
	}
	if f := checkQuoted(words); f != nil {
		return f
	}
	for _, w := range words {
		if !strings.Contains(w.Text, "=") {
			return &fault{w, quote(w.Text) + " is not a distinguished name", "write each name in quotes, as \"ou=People,o=Example\""}
		}
	}
	return nil
}

// purposes are names of RFC 5280 4.2.1.12 and Microsoft's smart card logon.
var purposes = map[string]string{
	"serverAuth": "1.3.6.1.5.5.7.3.1", "clientAuth": "1.3.6.1.5.5.7.3.2", "codeSigning": "1.3.6.1.5.5.7.3.3",
	"emailProtection": "1.3.6.1.5.5.7.3.4", "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
	"pkinitClientAuth": "1.3.6.1.5.2.3.4", "anyExtendedKeyUsage": "2.5.29.37.0",
}

var oidShape = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]{0,17})){1,32}$`) })

// convertPurposes leaves object identifiers, or the one word ignore.
func convertPurposes(v *value, words []Word) *fault {
	for i, w := range words {
		if w.Text == "ignore" {
			if len(words) > 1 {
				return &fault{w, "ignore contradicts the other words of eku", ""}
			}
			return nil
		}
		if oidShape().MatchString(w.Text) {
			continue
		}
		names := []string{"ignore"}
		for name, oid := range purposes {
			if equalKeys(name, w.Text) {
				v.texts[i] = oid
			}
			names = append(names, name)
		}
		if v.texts[i] == w.Text {
			slices.Sort(names)
			hint := didYouMean(w.Text, names)
			if hint == "" {
				hint = "ignore, an object identifier, or one of " + strings.Join(names, ", ")
			}
			return &fault{w, "unknown extended key usage " + quote(w.Text), hint}
		}
	}
	return nil
}

// isVariable: NAME=value, the name of letters, digits and _ and not beginning with a digit.
func isVariable(s string) bool {
	name, _, ok := strings.Cut(s, "=")
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
	return ok && name != "" && strings.IndexByte(letters, name[0]) >= 0 && strings.Trim(name, letters+"0123456789") == ""
}

func checkEnvironment(words []Word) *fault {
	for _, w := range words {
		if !isVariable(w.Text) {
			return &fault{w, quote(w.Text) + " is not NAME=value", ""}
		}
	}
	return nil
}
