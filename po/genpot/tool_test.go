package main

import (
	"bytes"
	"os"
	"slices"
	"testing"
)

func TestTheToolsTemplateIsUpToDate(t *testing.T) {
	t.Chdir("../..")
	sentences, err := toolSentences(".")
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(toolTemplateFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, toolTemplate(sentences)) {
		t.Errorf("%s is not what the tools say: run make pot", toolTemplateFile)
	}
}

func TestSentencesOf(t *testing.T) {
	const imported = "package p\nimport \"pam_pkcs11/internal/message\"\n"
	tests := map[string]struct {
		path, source string
		want         []string
		fails        bool
	}{
		"a finding":              {"doctor/a.go", imported + `var x = message.Textf("no %s", "card")`, []string{"no %s"}, false},
		"in pieces":              {"doctor/a.go", imported + `var x = message.Textf("no " + "card")`, []string{"no card"}, false},
		"one that is made":       {"doctor/a.go", imported + `var x = message.Textf(y)`, nil, true},
		"another's Textf":        {"other/a.go", "package p\nvar x = Textf(y)", nil, false},
		"what the tool says":     {"cmd/pam-pkcs11/a.go", "package p\nfunc f() { o.say(\"done\") }", []string{"done"}, false},
		"the help of a command":  {"cmd/pam-pkcs11/a.go", "package p\nvar c = C{Short: \"Do it\", Use: \"do\"}", []string{"Do it"}, false},
		"the help of a flag":     {"cmd/pam-pkcs11/a.go", "package p\nfunc f() { s.BoolVar(&x, \"old\", false, \"as of old\") }", []string{"as of old"}, false},
		"flags elsewhere":        {"cmd/pcscd/a.go", "package p\nfunc f() { s.BoolVar(&x, \"old\", false, \"as of old\") }", nil, false},
		"not a file of Go":       {"cmd/pam-pkcs11/a.go", "package", nil, true},
		"no sentence: a boolean": {"cmd/pam-pkcs11/a.go", "package p\nfunc f() { s.Bool(1, 2, 3) }", nil, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := sentencesOf(tt.path, tt.source)
			if (err != nil) != tt.fails || !slices.Equal(got, tt.want) {
				t.Errorf("%q, error %v", got, err)
			}
		})
	}
}
