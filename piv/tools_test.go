package piv_test

import (
	"crypto"
	"encoding/hex"

	"pam_pkcs11/internal/simcard"
)

type testSigner = crypto.Signer

func rsaSigner() testSigner      { return rsaKey() }
func otherRSASigner() testSigner { return otherRSA() }
func p256Signer() testSigner     { return p256() }
func other256Signer() testSigner { return other256() }

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

// foreignAID is the second applet's, with its length.
var foreignAID = hex.EncodeToString(append([]byte{byte(len(simcard.ForeignAID))}, simcard.ForeignAID...))
