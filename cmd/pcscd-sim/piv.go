package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"
	"time"

	"pam_pkcs11/internal/simcard"
)

// pivFile is a line "key REF FILE" or "certificate REF FILE" of a description.
type pivFile struct {
	ref         simcard.KeyRef
	private     crypto.PrivateKey
	certificate []byte
}

// maxPEM bounds the file of a key or certificate.
const maxPEM = 1 << 16

// readPIVFile reads what word ("key" or "certificate") says: "9A FILE". The file is PEM; of a key PKCS#8, SEC 1 or PKCS#1.
func readPIVFile(word, value string) (pivFile, error) {
	place, name, _ := strings.Cut(value, " ")
	ref, err := hex.DecodeString(place)
	if err != nil || len(ref) != 1 || name == "" {
		return pivFile{}, fmt.Errorf("%s is followed by 9A, 9C, 9D, 9E or 82 to 95, and a file", word)
	}
	f, err := os.Open(strings.TrimSpace(name))
	if err != nil {
		return pivFile{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err != nil {
		return pivFile{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return pivFile{}, fmt.Errorf("%s: no PEM", f.Name())
	}
	file := pivFile{ref: simcard.KeyRef(ref[0])}
	if word == "certificate" {
		file.certificate = block.Bytes
		return file, nil
	}
	if file.private, err = parseKey(block); err != nil {
		return pivFile{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return file, nil
}

func parseKey(block *pem.Block) (crypto.PrivateKey, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	}
	return nil, errors.New("not a private key")
}

// newPIV makes a PIV card with PIN 123456 and PUK 12345678. Without files it gets keys of its own in its four places,
// RSA and elliptic curves, with certificates that it issues itself.
func newPIV(files []pivFile) (*simcard.Card, error) {
	card, err := simcard.New(simcard.Options{})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return card, fillPIV(card)
	}
	together := make(map[simcard.KeyRef]pivFile)
	for _, f := range files {
		t := together[f.ref]
		if f.private != nil {
			t.private = f.private
		} else {
			t.certificate = f.certificate
		}
		together[f.ref] = t
	}
	for ref, f := range together {
		if err := card.SetKey(ref, f.private, f.certificate); err != nil {
			return nil, err
		}
	}
	return card, nil
}

// fillPIV gives a card keys and self-issued certificates.
func fillPIV(card *simcard.Card) error {
	for i, place := range []struct {
		ref   simcard.KeyRef
		name  string
		rsa   bool
		usage x509.KeyUsage
	}{
		{simcard.KeyAuthentication, "PIV Authentication", true, x509.KeyUsageDigitalSignature},
		{simcard.KeySignature, "Digital Signature", false, x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment},
		{simcard.KeyManagement, "Key Management", true, x509.KeyUsageKeyEncipherment},
		{simcard.KeyCardAuth, "Card Authentication", false, x509.KeyUsageDigitalSignature},
	} {
		private, err := generate(place.rsa)
		if err != nil {
			return err
		}
		now := time.Now()
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: place.name, Organization: []string{"pcscd-sim"}},
			NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), KeyUsage: place.usage,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
		if err != nil {
			return err
		}
		if err := card.SetKey(place.ref, private, der); err != nil {
			return err
		}
	}
	return nil
}

func generate(isRSA bool) (crypto.Signer, error) {
	if isRSA {
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}
