//go:build cgo

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/pkcs11/pkcs11test"
)

func TestReportOfACard(t *testing.T) {
	root, conf := planting(t)
	store, err := pkcs11test.NewStore(root)
	if err != nil {
		t.Fatal(err)
	}
	leaf := testca.NewRoot("Queen of Hearts").Leaf("MaryAnn Duchess")
	if err := store.Add(pkcs11test.Token{Label: "MaryAnn", PIN: "987654", Objects: []pkcs11test.Object{
		{Label: "MaryAnn", ID: []byte{1}, Cert: leaf.DER, Key: leaf.Key.Private},
	}}); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("pam_pkcs11 { use_mappers = pwent; use_pkcs11_module = m; pkcs11_module m { module = %s; environment = %q; cert_policy = none; } }\n",
		store.Library, store.Environment()[0])
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	var out, errs bytes.Buffer
	if code := run([]string{program, "report", "--json", "--config", conf}, nil, &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	var told struct {
		Doctor []struct{ ID, Subject, Fact string }
	}
	if err := json.Unmarshal(out.Bytes(), &told); err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, f := range told.Doctor {
		seen = seen || f.ID == "card" || f.ID == "certificate"
	}
	if !seen {
		t.Errorf("the card was not looked at: %s", out.String())
	}
	for _, name := range []string{"MaryAnn", "Duchess", "Hearts", "987654"} {
		if strings.Contains(out.String(), name) {
			t.Errorf("%q comes through: %s", name, out.String())
		}
	}
}
