package schema

import (
	"fmt"
	"strings"
	"testing"

	"pam_pkcs11/config/internal/scconf"
)

func TestEveryDefaultIsSound(t *testing.T) {
	for _, table := range Tables() {
		for _, k := range table.Keys {
			if k.Default != "" && k.Kind != Anything {
				v := k.defaultValue()
				if len(v.Texts) == 0 && k.Default != "none" {
					t.Errorf("%s %s: the default %q is no value", table.Type, k.Name, k.Default)
				}
			}
			if k.Doc == "" || strings.ContainsAny(k.Doc, "\n\"") {
				t.Errorf("%s %s: documentation %q", table.Type, k.Name, k.Doc)
			}
			if k.Name != strings.ToLower(k.Name) || strings.Count(strings.Join(table.Names(), "\n")+"\n", k.Name+"\n") < 1 {
				t.Errorf("name %q", k.Name)
			}
		}
	}
}

func TestSchemaKnowsEveryOldMapper(t *testing.T) {
	for _, name := range strings.Fields("subject mail ms krb digest cn uid pwent generic null ldap opensc openssh serial upn certmap") {
		if Mapper(name) == nil {
			t.Errorf("no mapper %s", name)
		}
	}
}

// TestVocabularyIsRead: each word that the manual page shows is one that the program takes.
func TestVocabularyIsRead(t *testing.T) {
	for _, table := range Tables() {
		for _, k := range table.Keys {
			for _, word := range k.vocabulary() {
				text := word
				if k.Kind == Conditions {
					text = "attribute=" + word
				}
				if _, _, f := k.Decode([]scconf.Word{{Text: text}}); f != nil {
					t.Errorf("%s %s = %s: %s", table.Type, k.Name, text, f.Text)
				}
			}
			if k.Kind != Int && k.Kind != Seconds {
				continue
			}
			for n, good := range map[int]bool{k.Min - 1: false, k.Min: true, k.Max: true, k.Max + 1: false} {
				if _, _, f := k.Decode([]scconf.Word{{Text: fmt.Sprint(n)}}); (f == nil) != good {
					t.Errorf("%s %s = %d: %v", table.Type, k.Name, n, f)
				}
			}
		}
	}
}
