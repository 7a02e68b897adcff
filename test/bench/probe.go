package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify"
)

// probes are what a process of its own is measured at: this program calls itself by them. A scene directory holds
// ca.pem and leaf.der.
var probes = map[string]func(args []string) error{
	"empty": func([]string) error { return nil },
	"sha":   probeSHA, "std": probeStandard, "scan": probeScan, "index": probeIndex, "cost": probeCost, "card": probeCard,
}

// probeSHA only computes the SHA-256 of a file.
func probeSHA(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{f}, make([]byte, 256<<10))
	return err
}

// probeStandard does with the standard library what a login needs.
func probeStandard(args []string) error {
	der, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(args[1], "ca.der"))
	if err != nil {
		return err
	}
	ca, err := x509.ParseCertificate(text)
	if err != nil {
		return err
	}
	if err := list.CheckSignatureFrom(ca); err != nil {
		return err
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Sign() == 0 {
			return errors.New("serial number 0")
		}
	}
	return nil
}

// checker makes a verifier with the CRL of a file, or without one.
func checker(crl, dir, store string) (*verify.Verifier, error) {
	o := verify.Options{CADir: filepath.Join(dir, "ca.pem"), Policy: verify.Policy{CA: true}, StoreDir: store}
	if crl != "" {
		o.CRLDir, o.Policy.CRL = crl, "offline"
	}
	return verify.New(o)
}

func leafOf(dir string) (*certinfo.Certificate, error) {
	der, err := os.ReadFile(filepath.Join(dir, "leaf.der"))
	if err != nil {
		return nil, err
	}
	return certinfo.Parse(der)
}

// probeScan checks a certificate with a CRL that was not seen before.
func probeScan(args []string) error {
	v, err := checker(args[0], args[1], "")
	if err != nil {
		return err
	}
	leaf, err := leafOf(args[1])
	if err != nil {
		return err
	}
	_, err = v.Check(context.Background(), leaf, nil)
	return err
}

// probeIndex builds the index of a CRL in the store args[2].
func probeIndex(args []string) error {
	v, err := checker(args[0], args[1], args[2])
	if err != nil {
		return err
	}
	reports, err := v.UpdateCRLs(context.Background(), nil)
	for _, r := range reports {
		err = errors.Join(err, r.Err)
	}
	return err
}

// probeCost prints, in nanoseconds, the medians of a check without CRLs and with an indexed one, each with a verifier
// of its own, as a login has.
func probeCost(args []string) error {
	leaf, err := leafOf(args[1])
	if err != nil {
		return err
	}
	var costs [2][]time.Duration
	for range 200 {
		for i, crl := range []string{"", args[0]} {
			began := time.Now()
			v, err := checker(crl, args[1], args[2])
			if err != nil {
				return err
			}
			if _, err := v.Check(context.Background(), leaf, nil); err != nil {
				return err
			}
			costs[i] = append(costs[i], time.Since(began))
		}
	}
	slices.Sort(costs[0])
	slices.Sort(costs[1])
	_, err = fmt.Println(costs[0][100].Nanoseconds(), costs[1][100].Nanoseconds())
	return err
}
