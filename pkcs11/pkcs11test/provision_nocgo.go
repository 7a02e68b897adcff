//go:build !cgo

package pkcs11test

import "pam_pkcs11/pkcs11"

func provision(string, string, Token) error { return pkcs11.ErrNoCgo }

func finalizeLibrary(string) error { return pkcs11.ErrNoCgo }
