package main

import (
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/verify"
)

// updateCode is the exit code of `crl update`, the worst of what its reports tell. pam-pkcs11(1)
// has the table.
func updateCode(reports []verify.CRLReport) int {
	code := cli.OK
	for _, r := range reports {
		code = worseOf(code, codeOf(r))
	}
	return code
}

// codeOf: without a list logins that need it are refused, with one that cannot be used perhaps; an
// address whose former list is in date, and an index that is missing, hinder nobody yet.
func codeOf(r verify.CRLReport) int {
	switch {
	case r.Err == nil:
		return cli.OK
	case r.NotKept:
		return cli.DataErr
	case r.Path == "" && !r.InDate:
		return cli.Unavailable
	case r.Path == "" || r.NotIndexed:
		return cli.TempFail
	}
	return cli.DataErr
}

// worseOf gives the one that stands first in the order of weight.
func worseOf(a, b int) int {
	for _, code := range []int{cli.Unavailable, cli.DataErr, cli.TempFail} {
		if a == code || b == code {
			return code
		}
	}
	return cli.OK
}
