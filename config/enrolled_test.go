package config_test

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
)

// TestEnrolledNeedsTheProof: whatever takes the proof of possession away, in any block, refuses the file.
func TestEnrolledNeedsTheProof(t *testing.T) {
	for _, c := range []struct {
		name, mappers, first, second string
		argument                     []string
		want                         string
	}{
		{name: "proof", mappers: "enrolled", first: "cert_policy = ca, signature;"},
		{name: "none has it, too", mappers: "enrolled", first: "cert_policy = none;"},
		{name: "no proof", mappers: "enrolled", first: "cert_policy = ca, no_signature;", want: "f.conf:4:"},
		{name: "behind others", mappers: "cn, enrolled", first: "cert_policy = ca, no_signature;", want: "no_signature contradicts"},
		{name: "by type", mappers: "pairs", first: "cert_policy = ca, no_signature;", want: "no_signature contradicts"},
		{name: "in a later block", mappers: "enrolled", second: "cert_policy = ca, no_signature; allow_looser_block = true;", want: "f.conf:5:"},
		{name: "by an argument", mappers: "enrolled", argument: []string{"no_signature"}, want: "no_signature contradicts"},
		{name: "without the mapper", mappers: "cn", first: "cert_policy = ca, no_signature;"},
	} {
		text := "pam_pkcs11 {\n use_pkcs11_module = a, b; use_mappers = " + c.mappers + ";\n mapper pairs { type = enrolled; }\n" +
			" pkcs11_module a { module = /a.so; " + c.first + " }\n pkcs11_module b { module = /b.so; allow_looser_block = true; " + c.second + " }\n}\n"
		if c.second != "" {
			text = strings.Replace(text, "allow_looser_block = true; ", "", 1)
		}
		_, err := config.Parse("f.conf", []byte(text), &config.Arguments{CertPolicy: c.argument})
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestEnrolledKeysWithoutTheMapper(t *testing.T) {
	r := config.CheckData("f.conf", []byte("pam_pkcs11 {\n use_mappers = cn; use_pkcs11_module = builtin;\n enrolled_root = true; enrolled_file = /etc/pam_pkcs11/enrolled;\n}\n"))
	if len(r.Errors) > 0 || len(r.Notes) == 0 || !strings.Contains(r.Notes[0].String()+r.Notes[len(r.Notes)-1].String(), "enrolled_root has no effect") {
		for _, n := range r.Notes {
			t.Log(n)
		}
		t.Error(r.Errors)
	}
}
