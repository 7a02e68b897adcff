package config_test

import (
	"strings"
	"testing"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
)

// TestEnableOCSP: files of RHEL 5 and 6 have the key. What it asks for is not lost without a word, and what asks for
// nothing refuses nobody.
func TestEnableOCSP(t *testing.T) {
	for _, row := range []struct {
		name, global, module string
		want                 string // in the only error; "": none
	}{
		{"false", "enable_ocsp = false;", "", ""},
		{"empty", "enable_ocsp = ;", "", ""},
		{"true", "enable_ocsp = true;", "", "f.conf:2:15: enable_ocsp = true is not how OCSP is asked for now (write cert_policy = ca, signature, ocsp_on; in"},
		{"true, its own policy", "enable_ocsp = true;", "cert_policy = ca, crl_auto;", "write cert_policy = ca, crl_auto, ocsp_on;"},
		{"true, no policy", "enable_ocsp = true;", "cert_policy = none;", "write cert_policy = ca, signature, ocsp_on;"},
		{"true, and ocsp_on", "enable_ocsp = true;", "cert_policy = ca, ocsp_on;", ""},
		{"neither", "enable_ocsp = perhaps;", "", "enable_ocsp is true or false"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := config.CheckData("f.conf", []byte(minimal(row.global, row.module, "")))
			switch {
			case row.want == "" && len(r.Errors) > 0, row.want != "" && len(r.Errors) != 1:
				t.Fatalf("errors %v", r.Errors)
			case row.want != "" && !strings.Contains(r.Errors[0].Error(), row.want):
				t.Errorf("%v, want %q", r.Errors, row.want)
			case row.want == "" && !hasNote(r.Notes, finding.NoteNoEffect, "enable_ocsp has no effect"):
				t.Errorf("notes %v", r.Notes)
			}
		})
	}
}
