package config_test

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pam_pkcs11/config/internal/schema"
)

// blocksOf cuts a text at each match of begin, and gives what belongs to each.
func blocksOf(text string, begin *regexp.Regexp) []string {
	var blocks []string
	places := begin.FindAllStringIndex(text, -1)
	for i, place := range places {
		end := len(text)
		if i+1 < len(places) {
			end = places[i+1][0]
		}
		blocks = append(blocks, text[place[0]:end])
	}
	return blocks
}

func hasWord(text, word string) bool {
	return regexp.MustCompile(`(^|[^\w-])` + regexp.QuoteMeta(word) + `($|[^\w-])`).MatchString(text)
}

// wordsOf are the words and the ends of the range of a key. This is on purpose not Key.Values.
func wordsOf(k schema.Key) []string {
	var words []string
	switch k.Kind {
	case schema.Choice, schema.Words:
		words = append(words, k.Words...)
	case schema.Digest:
		words = []string{"sha1", "sha224", "sha256", "sha384", "sha512"}
	case schema.TLSMode:
		words = []string{"off", "tls", "ssl"}
	case schema.Purposes:
		words = []string{"ignore", "clientAuth", "smartcardLogon", "pkinitClientAuth"}
	case schema.Conditions:
		words = []string{"cn", "subject", "kpn", "email", "upn", "uid", "cert", "serial", "issuer", "sid", "altsecid"}
	case schema.Int, schema.Seconds:
		words = []string{strconv.Itoa(k.Min), strconv.Itoa(k.Max)}
		for _, name := range k.Named {
			words = append(words, name.Word)
		}
	}
	return words
}

// TestEveryWordIsDocumented: whoever wants another behaviour finds the word for it at the key, in the manual page and
// on the comment right above the key in the example.
func TestEveryWordIsDocumented(t *testing.T) {
	page, err := os.ReadFile(manualFile)
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	entries := blocksOf(strings.ReplaceAll(string(page), `\-`, "-"), regexp.MustCompile(`(?m)^\.TP\n\.B [a-z0-9_]+$`))

	for _, table := range schema.Tables() {
		for _, k := range table.Keys {
			if k.Status == schema.NoEffect {
				continue
			}
			if k.Values() == "" {
				t.Errorf("%s: nothing says what may be written", k.Name)
			}
			above := regexp.MustCompile(`(?m)^ *# Values: .*\n *#? *`+k.Name+` = .*$|^  #   Values: .*\n  #   `+k.Name+` = .*$`).FindAllString(string(example), -1)
			for _, word := range wordsOf(k) {
				if !anyDocuments(entries, ".TP\n.B "+k.Name+"\n", word) {
					t.Errorf("pam_pkcs11.conf(5), %s: nothing names %s", k.Name, word)
				}
				if !anyDocuments(above, "", word) {
					t.Errorf("the example, %s: nothing names %s", k.Name, word)
				}
			}
		}
	}
}

func anyDocuments(entries []string, prefix, word string) bool {
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e, prefix); ok && hasWord(rest, word) {
			return true
		}
	}
	return false
}

// TestExampleShowsNoCheckThatIsOff: what an auditor's grep for a setting finds in a copy of the example is a line that
// counts. No comment looks like a setting of the keys that such rules look for.
func TestExampleShowsNoCheckThatIsOff(t *testing.T) {
	example, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	for key, word := range map[string]string{
		"cert_policy": `crl_auto|crl_offline|crl_online|ocsp_on|signature`,
		"use_mappers": `pwent`,
	} {
		for line := range strings.Lines(string(example)) {
			comment := strings.HasPrefix(strings.TrimSpace(line), "#")
			if comment && strings.Contains(line, key) && regexp.MustCompile(word).MatchString(line) {
				t.Errorf("the comment %q passes for a setting", line)
			}
		}
	}
}
