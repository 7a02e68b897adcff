package login

import (
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/verify"
)

// VerifyOptions are the configuration's rules for certificates, with the system's clock and without a log.
func VerifyOptions(conf *config.Config) (verify.Options, error) {
	m := conf.Module
	purposes, err := objectIdentifiers(m.EKU.Required)
	if err != nil {
		return verify.Options{}, fmt.Errorf("eku: %w", err)
	}
	policies, err := objectIdentifiers(m.Chain.RequiredPolicies)
	if err != nil {
		return verify.Options{}, fmt.Errorf("required_policies: %w", err)
	}
	return verify.Options{
		CADir:             m.CADir,
		CRLDir:            m.CRLDir,
		Policy:            verify.Policy{CA: m.Policy.CA, Signature: m.Policy.Signature, CRL: m.Policy.CRL, OCSP: m.Policy.OCSP},
		EKU:               verify.EKU{Ignore: m.EKU.Ignore, Required: purposes},
		StrictPermissions: conf.Global.StrictPermissions,

		PartialChain: m.Chain.Partial, V1Anchors: m.Chain.V1Anchors, AllowSHA1: m.Chain.AllowSHA1, MinRSABits: m.Chain.MinRSABits, ClockSkew: m.Chain.ClockSkew,
		RequiredPolicies: policies, RequireAllPolicies: m.Chain.RequireAllPolicies, ExpiryWarningDays: m.Chain.ExpiryWarningDays,
		CRLLeafOnly: m.CRL.LeafOnly, CRLGrace: m.CRL.Grace, CRLURLs: m.CRL.URLs, MaxCRLSize: m.CRL.MaxSize, Proxy: m.Proxy,
		NoProxy: m.NoProxy, CRLMirrors: crlMirrors(m.CRL.Mirrors), CRLLDAPServers: m.CRL.LDAPServers,
		Soft: m.SoftRevocation,
		OCSP: verify.OCSPOptions{
			URLs:           m.OCSP.URLs,
			ResponderCerts: m.OCSP.ResponderCerts,
			Nonce:          verify.NonceMode(m.OCSP.Nonce),
			MaxAge:         m.OCSP.MaxAge,

			DelegateWithoutStatus: m.OCSP.DelegateWithoutStatus,
		},
		StoreDir: verify.DefaultStore,
	}, nil
}

func crlMirrors(written []config.Mirror) []verify.CRLMirror {
	var all []verify.CRLMirror
	for _, m := range written {
		all = append(all, verify.CRLMirror{From: m.From, To: m.To})
	}
	return all
}

// verifyOptions are those of this attempt.
func (t *attempt) verifyOptions() (verify.Options, error) {
	o, err := VerifyOptions(t.conf)
	o.Now, o.Logger = t.a.Now, t.log
	return o, err
}

func objectIdentifiers(dotted []string) ([]asn1.ObjectIdentifier, error) {
	var list []asn1.ObjectIdentifier
	for _, d := range dotted {
		var oid asn1.ObjectIdentifier
		for _, arc := range strings.Split(d, ".") {
			n, err := strconv.Atoi(arc)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%q is not an object identifier", d)
			}
			oid = append(oid, n)
		}
		list = append(list, oid)
	}
	return list, nil
}
