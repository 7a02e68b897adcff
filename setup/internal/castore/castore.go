// Package castore looks for certificates of authorities in the store that a system has for them:
// the files of ca-certificates and of p11-kit, in PEM. Nothing in it is trusted for logins because
// it is there: whoever uses an answer asks a person first.
package castore

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // for fingerprints
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pam_pkcs11/internal/certinfo"
)

// places are where systems have them: single files first, whose names say something, and then
// bundles, which p11-kit writes on Fedora and SUSE.
var places = []string{
	"/usr/local/share/ca-certificates/*.crt",
	"/usr/local/share/ca-certificates/*/*.crt",
	"/etc/pki/ca-trust/source/anchors/*",
	"/etc/pki/trust/anchors/*",
	"/etc/ssl/certs/*.pem",
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
	"/var/lib/ca-certificates/ca-bundle.pem",
}

const (
	maxFile  = 4 << 20 // bytes of a file
	maxFiles = 4096
)

// Found is the certificate of an authority, and the file that has it.
type Found struct {
	File string
	Cert *certinfo.Certificate
}

// Issuers are the authorities in the store below a root whose key has signed a certificate, each
// once. An authority that has expired is none.
func Issuers(root string, cert *certinfo.Certificate, now time.Time) []Found {
	leaf, err := cert.X509()
	if err != nil {
		return nil // of a kind whose signature cannot be checked here
	}
	return find(root, cert.RawIssuer, func(c *certinfo.Certificate) bool {
		ca, err := c.X509()
		return err == nil && isAuthority(c, now) && leaf.CheckSignatureFrom(ca) == nil
	})
}

// ByFingerprint are the authorities in the store below a root with that SHA-256 fingerprint: one,
// or none.
func ByFingerprint(root string, sum []byte, now time.Time) []Found {
	return find(root, nil, func(c *certinfo.Certificate) bool {
		return isAuthority(c, now) && bytes.Equal(c.Fingerprint(crypto.SHA256), sum)
	})
}

// isAuthority reports whether a certificate is an authority's and holds.
func isAuthority(c *certinfo.Certificate, now time.Time) bool {
	return c.BasicConstraintsValid && c.IsCA && !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// find looks at the certificates that hold some bytes.
func find(root string, holds []byte, match func(*certinfo.Certificate) bool) []Found {
	var all []Found
	files := 0
	for _, place := range places {
		// Glob fails only for a wrong pattern, and these are ours.

		names, _ := filepath.Glob(filepath.Join(root, place))

		for _, name := range names {
			if files++; files > maxFiles {
				return all
			}

			// A certificate without these bytes cannot match: most need not be parsed.
			for _, der := range certificates(name) {
				known := func(f Found) bool { return bytes.Equal(f.Cert.Raw, der) }
				if !bytes.Contains(der, holds) || slices.ContainsFunc(all, known) {
					continue
				}
				if c, err := certinfo.Parse(der); err == nil && match(c) {
					all = append(all, Found{File: name, Cert: c})
				}
			}
		}
	}
	return all
}

// certificates are those of a regular file in PEM; of one that cannot be read, or is too long,
// none.
func certificates(name string) [][]byte {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil
	}

	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()

	// The size is that of a moment ago: the file may have grown since.
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil
	}

	var ders [][]byte
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return ders
		}
		if block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE" {
			ders = append(ders, block.Bytes)
		}
	}
}
