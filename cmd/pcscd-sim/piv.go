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
	"pam_pkcs11/internal/simcard/container"
)

// pivFile is a line "key REF FILE" or "certificate REF FILE" of a description.
type pivFile struct {
	ref         simcard.KeyRef
	private     crypto.PrivateKey
	certificate []byte
	form        container.Form
}

// forms are the containers of a certificate, by their names in a description.
var forms = map[string]container.Form{
	"gzip":       {Compression: container.Gzip},
	"netid":      {Compression: container.NetID},
	"no-info":    {NoInfo: true},
	"info-first": {InfoFirst: true},
	"old":        {MSCUID: true, EndData: true},
}

// maxFile bounds the file of a key, certificate or object.
const maxFile = 1 << 16

// readPIVFile reads the value of word ("key" or "certificate"): "9A FILE", and for a certificate
// maybe a form. The file is PEM; a key is PKCS#8, SEC 1 or PKCS#1.
func readPIVFile(word, value string) (pivFile, error) {
	place, name, _ := strings.Cut(value, " ")
	ref, err := hex.DecodeString(place)
	if err != nil || len(ref) != 1 || name == "" {
		return pivFile{}, fmt.Errorf("%s is followed by 9A, 9C, 9D, 9E or 82 to 95, and a file",
			word)
	}

	file := pivFile{ref: simcard.KeyRef(ref[0])}
	name = strings.TrimSpace(name)
	// A last word that names no form belongs to the name of the file.
	if at := strings.LastIndexByte(name, ' '); at > 0 && word == "certificate" {
		if form, ok := forms[name[at+1:]]; ok {
			file.form = form
			name = strings.TrimSpace(name[:at])
		}
	}

	text, err := readFile(name)
	if err != nil {
		return pivFile{}, err
	}

	block, _ := pem.Decode(text)
	if block == nil {
		return pivFile{}, fmt.Errorf("%s: no PEM", name)
	}

	if word == "certificate" {
		file.certificate = block.Bytes
		return file, nil
	}

	file.private, err = parseKey(block)
	if err != nil {
		return pivFile{}, fmt.Errorf("%s: %w", name, err)
	}
	return file, nil
}

// readFile reads a file that a description names, up to maxFile.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// parseKey reads a private key in one of the forms that openssl writes.
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

// newPIV makes a PIV card with what the words say, and with PIN 123456 and PUK 12345678 where they
// say nothing. Without files it gets keys of its own in its four places, RSA and elliptic curves,
// with certificates that it issues itself.
func newPIV(files []pivFile, words *pivWords) (*simcard.Card, error) {
	card, err := simcard.New(words.o)
	if err != nil {
		return nil, err
	}

	if len(files) == 0 {
		err = fillPIV(card)
	} else {
		err = loadPIV(card, files)
	}
	if err != nil {
		return nil, err
	}

	// Last: an object that the words name replaces what a key has brought.
	words.finish(card)
	return card, nil
}

// loadPIV gives a card the keys and certificates of files.
func loadPIV(card *simcard.Card, files []pivFile) error {
	for _, f := range files {
		if f.private != nil {
			if err := card.SetKey(f.ref, f.private, nil); err != nil {
				return err
			}
		}
	}

	// Certificates come after all keys: SetKey takes away the one that is there.
	for _, f := range files {
		if f.certificate != nil {
			if err := card.SetCertificate(f.ref, f.certificate, f.form); err != nil {
				return err
			}
		}
	}
	return nil
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
		{simcard.KeySignature, "Digital Signature", false,
			x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment},
		{simcard.KeyManagement, "Key Management", true, x509.KeyUsageKeyEncipherment},
		{simcard.KeyCardAuth, "Card Authentication", false, x509.KeyUsageDigitalSignature},
	} {
		private, err := generate(place.rsa)
		if err != nil {
			return err
		}

		now := time.Now()
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)),
			Subject:      pkix.Name{CommonName: place.name, Organization: []string{"pcscd-sim"}},
			NotBefore:    now.Add(-time.Hour),
			NotAfter:     now.AddDate(1, 0, 0),
			KeyUsage:     place.usage,
		}
		der, err := x509.CreateCertificate(
			rand.Reader, template, template, private.Public(), private)
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
