package home

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper/internal/mapping"
)

// openscMapper looks for the certificate itself in ~/.eid/authorized_certificates, a list in PEM.
type openscMapper struct{ homes homeFiles }

// maxCertificateList bounds the list, in octets.
const maxCertificateList = 1 << 20

// NewOpenSC sets up the mapper opensc.
func NewOpenSC(o mapping.Options) mapping.Mapper {
	return &openscMapper{homeFiles{
		accounts: o.Accounts,
		strict:   o.StrictPermissions,
		log:      o.Logger,
		file:     below(".eid/authorized_certificates"),
		maxSize:  maxCertificateList,
	}}
}

// Binds implements mapping.Mapper.
func (m *openscMapper) Binds() bool { return true }

// Find implements mapping.Mapper.
func (m *openscMapper) Find(ctx context.Context, cert *certinfo.Certificate) ([]mapping.Answer, error) {
	name := certificateName(cert)
	mapping.TellRead(ctx, name)
	return m.homes.Find(ctx, name, listsCertificate(cert.Raw))
}

// Match implements mapping.Mapper.
func (m *openscMapper) Match(ctx context.Context, cert *certinfo.Certificate, user *mapping.Person) (mapping.Answer, bool, error) {
	name := certificateName(cert)
	mapping.TellRead(ctx, name)
	return m.homes.Match(ctx, user, name, listsCertificate(cert.Raw))
}

// certificateName returns a name for people: what of the certificate decided.
func certificateName(cert *certinfo.Certificate) string {
	return "certificate " + cert.SerialHex(":") + " of " + cert.Issuer.RFC4514()
}

// listsCertificate reports whether a list in PEM holds the DER of a certificate. What is
// between the blocks, and blocks of other kinds, do not count.
func listsCertificate(der []byte) holds {
	return func(r io.Reader) (bool, error) {
		rest, err := io.ReadAll(r)
		if err != nil {
			return false, err
		}

		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				return false, nil
			}

			isCertificate := block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE"
			if isCertificate && bytes.Equal(block.Bytes, der) {
				return true, nil
			}
		}
	}
}
