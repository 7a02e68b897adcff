package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxValues bounds a list.
const maxValues = 100

// fault is why words are no value of a key. word is the one at fault.
type fault struct {
	word       Word
	text, hint string
}

// decode reads the words written for a key. odd says how the C module read them otherwise, "" when it
// did not.
func (k *Key) decode(words []Word) (v value, odd string, f *fault) {
	v.set = len(words) > 0
	if len(words) > 0 {
		v.at = words[0]
	}
	if k.Kind == Words || k.Kind == Names {
		words, odd = splitQuoted(words)
	}
	v.words = words
	for _, w := range words {
		v.texts = append(v.texts, w.Text)
	}
	if len(words) > maxValues {
		return v, "", &fault{words[maxValues], fmt.Sprintf("%s has more than %d values", k.Name, maxValues), ""}
	}
	if !k.isList() && len(words) > 1 {
		return v, "", &fault{words[1], fmt.Sprintf("%s takes one value, here are %d", k.Name, len(words)), "is it one value with commas? Then put it in quotes"}
	}
	if len(words) == 0 {
		return k.defaultValue(), odd, nil
	}
	if err := k.convert(&v, words, &odd); err != nil {
		return v, odd, err
	}
	return v, odd, nil
}

func (k *Key) isList() bool {
	return slices.Contains([]Kind{Words, Names, List, Paths, Authorities, Bases, Conditions, Purposes, Environment, WebURLs, ListURLs, OIDs, Anything}, k.Kind)
}

// convert checks v.texts and turns them into what the kind wants.
func (k *Key) convert(v *value, words []Word, odd *string) *fault {
	w := words[0]
	switch k.Kind {
	case Bool:
		return convertBool(k, v, w, odd)
	case Int, Seconds:
		return k.convertInt(v, w, odd)
	case Choice, Words:
		return k.checkWords(words)
	case Path:
		return k.convertPath(v, w, odd)
	case Paths:
		return k.convertPaths(v, words, odd)
	case Digest:
		return convertDigest(v, w, odd)
	case Mapfile:
		return convertMapfile(v, w, odd)
	case TLSMode:
		return convertTLSMode(v, w, odd)
	case Pattern:
		return convertPattern(v, w)
	case Authorities:
		return checkAuthorities(words)
	case Bases:
		return checkBases(words)
	case Conditions:
		return checkConditions(words)
	case Purposes:
		return convertPurposes(v, words)
	case Environment:
		return checkEnvironment(words)
	case WebURLs:
		return checkWebURLs(words)
	case ListURLs:
		return checkListURLs(words)
	case OIDs:
		return checkOIDs(words)
	case URI:
		if !strings.HasPrefix(w.Text, "pkcs11:") {
			return &fault{w, quote(w.Text) + " is not a PKCS#11 URI", "it begins with pkcs11:"}
		}
	}
	return nil
}

// defaultValue reads the table's own default.
func (k *Key) defaultValue() value {
	if k.Default == "" || k.Kind == Anything {
		return value{}
	}
	words := []Word{{Text: k.Default}}
	if k.isList() && k.Kind != Bases {
		words = nil
		for _, s := range strings.Split(k.Default, ",") {
			words = append(words, Word{Text: strings.TrimSpace(s)})
		}
	}
	v := value{}
	for _, w := range words {
		v.texts = append(v.texts, w.Text)
	}
	var odd string
	if f := k.convert(&v, words, &odd); f != nil {
		return value{} // a test reads every default
	}
	return v
}

// splitQuoted cuts words like "ca, signature", which the C module took for one unknown word.
func splitQuoted(words []Word) ([]Word, string) {
	var all []Word
	odd := ""
	for _, w := range words {
		parts := strings.FieldsFunc(w.Text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
		if len(parts) != 1 || parts[0] != w.Text {
			odd = "the C module took " + quote(w.Text) + " for one word that it did not know"
		}
		for _, p := range parts {
			part := w
			part.Text = p
			all = append(all, part)
		}
	}
	return all, odd
}

// convertBool: the C module looked at the first letter; t and y were true, all else false.
func convertBool(k *Key, v *value, w Word, odd *string) *fault {
	switch strings.ToLower(w.Text) {
	case "true", "yes", "t", "y":
		v.b = true
	case "on", "1", "enable", "enabled":
		v.b = true
		*odd = "the C module read " + quote(w.Text) + " as false"
	case "false", "no", "off", "0", "f", "n", "disable", "disabled":
	default:
		hint := didYouMean(w.Text, []string{"true", "false", "yes", "no"})
		if hint == "" {
			hint = "write true or false"
		}
		return &fault{w, fmt.Sprintf("%s is true or false, not %s", k.Name, quote(w.Text)), hint}
	}
	return nil
}

// isInt: an optional sign, then decimal digits, or 0x and hexadecimal ones. Compiling an expression for it would be
// a good part of reading a file.
func isInt(s string) bool {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
		return strings.Trim(s[2:], "0123456789abcdefABCDEF") == ""
	}
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// convertInt: the C module read a word as 0.
func (k *Key) convertInt(v *value, w Word, odd *string) *fault {
	for _, name := range k.Named {
		if strings.EqualFold(name.Word, w.Text) {
			v.n = name.Number
			if v.n != 0 {
				*odd = "the C module read " + quote(w.Text) + " as 0"
			}
			return nil
		}
	}
	n, err := strconv.ParseInt(w.Text, 0, 32)
	if !isInt(w.Text) || err != nil && !errors.Is(err, strconv.ErrRange) {
		return &fault{w, fmt.Sprintf("%s is a whole number, not %s", k.Name, quote(w.Text)), k.namedHint()}
	}
	if err != nil || int(n) < k.Min || int(n) > k.Max {
		return &fault{w, fmt.Sprintf("%s is from %d to %d, not %s", k.Name, k.Min, k.Max, w.Text), ""}
	}
	v.n = int(n)
	return nil
}

// namedHint lists the words that stand for numbers, "" when there are none.
func (k *Key) namedHint() string {
	if len(k.Named) == 0 {
		return ""
	}
	words := make([]string, len(k.Named))
	for i, name := range k.Named {
		words[i] = name.Word
	}
	return "or one of " + strings.Join(words, ", ")
}

func (k *Key) checkWords(words []Word) *fault {
	for _, w := range words {
		if !slices.Contains(k.Words, w.Text) {
			hint := didYouMean(w.Text, k.Words)
			if hint == "" {
				hint = k.Instead
			}
			if hint == "" {
				hint = "one of " + strings.Join(k.Words, ", ")
			}
			return &fault{w, fmt.Sprintf("%s has no word %s", k.Name, quote(w.Text)), hint}
		}
	}
	return nil
}

// convertPath: ca_dir and crl_dir could begin with file:///, which the C module cut off with the last
// slash, so that the path was relative to the directory of the program.
func (k *Key) convertPath(v *value, w Word, odd *string) *fault {
	path := w.Text
	if rest, ok := strings.CutPrefix(path, "file://"); ok {
		path = rest
		*odd = "the C module took " + quote(w.Text) + " for a path relative to the current directory"
	}
	if !filepath.IsAbs(path) {
		return &fault{w, fmt.Sprintf("%s is an absolute path, not %s", k.Name, quote(w.Text)), ""}
	}
	v.texts = []string{path}
	return nil
}

// convertPaths is convertPath for each of several.
func (k *Key) convertPaths(v *value, words []Word, odd *string) *fault {
	var all []string
	for _, w := range words {
		if fault := k.convertPath(v, w, odd); fault != nil {
			return fault
		}
		all = append(all, v.texts[0])
	}
	v.texts = all
	return nil
}
