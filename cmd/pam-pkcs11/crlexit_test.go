package main

import (
	"errors"
	"testing"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/verify"
)

func TestUpdateCode(t *testing.T) {
	fault := errors.New("no")
	good := verify.CRLReport{Path: "/a"}
	damaged := verify.CRLReport{Path: "/b", Err: fault}
	noIndex := verify.CRLReport{Path: "/c", Err: fault, NotIndexed: true}
	foreign := verify.CRLReport{URL: "http://c/", Err: fault, NotKept: true}
	silent := verify.CRLReport{URL: "http://a/", Err: fault}
	spared := verify.CRLReport{URL: "http://b/", Err: fault, InDate: true}
	for _, tt := range []struct {
		name    string
		reports []verify.CRLReport
		want    int
	}{
		{"nothing", nil, cli.OK},
		{"all is well", []verify.CRLReport{good, good}, cli.OK},
		{"the former list is in date", []verify.CRLReport{good, spared}, cli.TempFail},
		{"no time for an index", []verify.CRLReport{noIndex, good}, cli.TempFail},
		{"a list is damaged", []verify.CRLReport{spared, damaged, noIndex}, cli.DataErr},
		{"a list of nobody who is known", []verify.CRLReport{spared, foreign}, cli.DataErr},
		{"no list", []verify.CRLReport{spared, damaged, silent, good}, cli.Unavailable},
	} {
		if got := updateCode(tt.reports); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
