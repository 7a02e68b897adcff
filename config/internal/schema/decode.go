package schema

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// maxValues bounds a list.
const maxValues = 100

// Fault is the reason for which words are no value of a key.
type Fault struct {
	At   scconf.Word // the one at fault
	Text string      // what is wrong
	Hint string      // what may have been meant; may be empty
}

// Decode reads the words written for a key. oldReading says how the C module read them otherwise;
// it is "" when the C module read the same.
func (k *Key) Decode(words []scconf.Word) (v Value, oldReading string, f *Fault) {
	v.Set = len(words) > 0
	if len(words) > 0 {
		v.At = words[0]
	}

	if k.Kind == Words || k.Kind == Names || k.Kind == CardKeys {
		words, oldReading = splitQuoted(words)
	}
	v.words = words
	for _, w := range words {
		v.Texts = append(v.Texts, w.Text)
	}

	if len(words) > maxValues {
		return v, "", &Fault{words[maxValues],
			fmt.Sprintf("%s has more than %d values", k.Name, maxValues), ""}
	}
	if !k.IsList() && len(words) > 1 {
		return v, "", &Fault{words[1],
			fmt.Sprintf("%s takes one value, here are %d", k.Name, len(words)),
			"is it one value with commas? Then put it in quotes"}
	}

	// `key = ;` stands for the default.
	if len(words) == 0 {
		return k.defaultValue(), oldReading, nil
	}
	if err := k.convert(&v, words, &oldReading); err != nil {
		return v, oldReading, err
	}
	return v, oldReading, nil
}

// IsList reports whether a key takes several values.
func (k *Key) IsList() bool {
	return slices.Contains([]Kind{Words, Names, List, Paths, Authorities, Bases, Conditions,
		Purposes, Environment, WebURLs, ListURLs, OIDs, CardKeys, Members, Anything}, k.Kind)
}

// convert checks v.Texts and turns them into what the kind wants.
func (k *Key) convert(v *Value, words []scconf.Word, oldReading *string) *Fault {
	// Kinds without a case take any text.
	w := words[0]
	switch k.Kind {
	case Bool:
		return convertBool(k, v, w, oldReading)
	case Int, Seconds:
		return k.convertInt(v, w, oldReading)
	case Choice, Words:
		return k.checkWords(words)
	case Path:
		return k.convertPath(v, w, oldReading)
	case Paths:
		return k.convertPaths(v, words, oldReading)
	case Digest:
		return convertDigest(v, w, oldReading)
	case Mapfile:
		return convertMapfile(v, w, oldReading)
	case TLSMode:
		return convertTLSMode(v, w, oldReading)
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
	case CardKeys:
		return convertCardKeys(v, words)
	case Members:
		return checkMembers(k.Name, words)
	case URI:
		if !strings.HasPrefix(w.Text, "pkcs11:") {
			return &Fault{w, finding.Quote(w.Text) + " is not a PKCS#11 URI",
				"it begins with pkcs11:"}
		}
	}
	return nil
}

// defaultValue reads the table's own default.
func (k *Key) defaultValue() Value {
	if k.Default == "" || k.Kind == Anything {
		return Value{}
	}

	words := []scconf.Word{{Text: k.Default}}
	// The one default of Bases is a distinguished name, with commas of its own.
	if k.IsList() && k.Kind != Bases {
		words = nil
		for _, s := range strings.Split(k.Default, ",") {
			words = append(words, scconf.Word{Text: strings.TrimSpace(s)})
		}
	}

	v := Value{}
	for _, w := range words {
		v.Texts = append(v.Texts, w.Text)
	}

	var oldReading string
	if f := k.convert(&v, words, &oldReading); f != nil {
		return Value{} // not reached: a test reads every default
	}
	return v
}

// splitQuoted cuts words like "ca, signature", which the C module took for one unknown word.
func splitQuoted(words []scconf.Word) ([]scconf.Word, string) {
	var all []scconf.Word
	oldReading := ""

	for _, w := range words {
		parts := strings.FieldsFunc(w.Text,
			func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
		if len(parts) != 1 || parts[0] != w.Text {
			oldReading = "the C module took " + finding.Quote(w.Text) +
				" for one word that it did not know"
		}

		for _, p := range parts {
			part := w
			part.Text = p
			all = append(all, part)
		}
	}
	return all, oldReading
}

// convertBool also takes the words of other programs. The C module looked at the first letter: t
// and y were true, all else false.
func convertBool(k *Key, v *Value, w scconf.Word, oldReading *string) *Fault {
	switch strings.ToLower(w.Text) {
	case "true", "yes", "t", "y":
		v.True = true
	case "on", "1", "enable", "enabled":
		v.True = true
		*oldReading = "the C module read " + finding.Quote(w.Text) + " as false"
	case "false", "no", "off", "0", "f", "n", "disable", "disabled":
	default:
		// Refused, not guessed: a wrong guess could leave out a check that was meant.
		hint := finding.DidYouMean(w.Text, []string{"true", "false", "yes", "no"})
		if hint == "" {
			hint = "write true or false"
		}
		return &Fault{w, fmt.Sprintf("%s is true or false, not %s", k.Name, finding.Quote(w.Text)),
			hint}
	}
	return nil
}

// isInt reports whether s is an optional sign, then decimal digits, or 0x and hexadecimal ones. It
// is no regular expression, because compiling one would be a good part of the time that a file
// takes.
func isInt(s string) bool {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	if len(s) > 2 && (s[:2] == "0x" || s[:2] == "0X") {
		return strings.Trim(s[2:], "0123456789abcdefABCDEF") == ""
	}
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// convertInt reads a number, or a word that stands for one, which the C module read as 0.
func (k *Key) convertInt(v *Value, w scconf.Word, oldReading *string) *Fault {
	for _, name := range k.Named {
		if strings.EqualFold(name.Word, w.Text) {
			v.Number = name.Number
			if v.Number != 0 {
				*oldReading = "the C module read " + finding.Quote(w.Text) + " as 0"
			}
			return nil
		}
	}

	// Base 0 reads 0x1F and 017 as C does; isInt keeps out what Go reads besides, as 0b1 and 1_000.
	n, err := strconv.ParseInt(w.Text, 0, 32)
	if !isInt(w.Text) || err != nil && !errors.Is(err, strconv.ErrRange) {
		return &Fault{w, fmt.Sprintf("%s is a whole number, not %s", k.Name, finding.Quote(w.Text)),
			k.namedHint()}
	}

	if err != nil || int(n) < k.Min || int(n) > k.Max {
		return &Fault{w, fmt.Sprintf("%s is from %d to %d, not %s", k.Name, k.Min, k.Max, w.Text),
			""}
	}

	v.Number = int(n)
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

func (k *Key) checkWords(words []scconf.Word) *Fault {
	for _, w := range words {
		if !slices.Contains(k.Words, w.Text) {
			hint := finding.DidYouMean(w.Text, k.Words)
			if hint == "" {
				hint = k.Instead
			}
			if hint == "" {
				hint = "one of " + strings.Join(k.Words, ", ")
			}
			return &Fault{w, fmt.Sprintf("%s has no word %s", k.Name, finding.Quote(w.Text)), hint}
		}
	}
	return nil
}

// convertPath takes an absolute path. ca_dir and crl_dir could begin with file:///, which the C
// module cut off with the last slash, so that the path was relative to the directory of the
// program.
func (k *Key) convertPath(v *Value, w scconf.Word, oldReading *string) *Fault {
	path := w.Text
	if rest, ok := strings.CutPrefix(path, "file://"); ok {
		path = rest
		*oldReading = "the C module took " + finding.Quote(w.Text) +
			" for a path relative to the current directory"
	}

	if !filepath.IsAbs(path) {
		return &Fault{w, fmt.Sprintf("%s is an absolute path, not %s", k.Name,
			finding.Quote(w.Text)), ""}
	}

	v.Texts = []string{path}
	return nil
}

// convertPaths is convertPath for each of several.
func (k *Key) convertPaths(v *Value, words []scconf.Word, oldReading *string) *Fault {
	var all []string
	for _, w := range words {
		if fault := k.convertPath(v, w, oldReading); fault != nil {
			return fault
		}
		all = append(all, v.Texts[0])
	}

	v.Texts = all
	return nil
}
