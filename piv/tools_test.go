package piv_test

import (
	"crypto"
	"encoding/hex"
	"iter"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/token"
)

type testSigner = crypto.Signer

func rsaSigner() testSigner      { return rsaKey() }
func otherRSASigner() testSigner { return otherRSA() }
func p256Signer() testSigner     { return p256() }
func other256Signer() testSigner { return other256() }

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

// foreignAID is the second applet's, with its length.
var foreignAID = hex.EncodeToString(append([]byte{byte(len(simcard.ForeignAID))}, simcard.ForeignAID...))

func fixed(c token.Choice) token.Choose {
	return func(iter.Seq2[token.Object, error]) (token.Choice, error) { return c, nil }
}

func failing(err error) token.Choose {
	return func(iter.Seq2[token.Object, error]) (token.Choice, error) { return token.Choice{}, err }
}
