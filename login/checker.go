package login

import (
	"context"
	"encoding/asn1"
	"fmt"
	"strconv"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper"
	"pam_pkcs11/verify"
)

// Checker answers, by one configuration, whether certificates are good and whose they are: for a
// login, and for tools that show it without one.
type Checker struct {
	conf     *config.Config // of which the block is that of the cards
	verifier *verify.Verifier
	chain    *mapper.Chain

	// trustsNames lets mappers be asked that only read the certificate's text.
	trustsNames bool

	passExpired bool // a certificate that stands alone may have run out (enrolled_expiry)
}

// NewChecker reads the authorities and sets up the mappers of a configuration, as a login does.
func (a *Authenticator) NewChecker(conf *config.Config) (*Checker, error) {
	log := a.logger()

	rules, err := VerifyOptions(conf)
	if err != nil {
		return nil, err
	}
	rules.Now = a.Now
	rules.Logger = log

	verifier, err := verify.New(rules)
	if err != nil {
		return nil, err
	}

	chain, err := mapper.New(conf.Mappers, mapper.Options{
		Authorities:                    verifier.Certificates(),
		PartialChain:                   conf.Module.Chain.Partial,
		Accounts:                       a.accounts(),
		StrictPermissions:              conf.Global.StrictPermissions,
		AllowUnknownUser:               conf.Global.AllowUnknownUser,
		DirectoryMayNameSystemAccounts: conf.Global.DirectoryMayNameSystemAccounts,
		EnrolledFile:                   conf.Global.EnrolledFile,
		EnrolledRoot:                   conf.Global.EnrolledRoot,
		StoreDir:                       storeDir,
		Logger:                         log,
		Now:                            a.Now,
	})
	if err != nil {
		return nil, err
	}

	return &Checker{
		conf:        conf,
		verifier:    verifier,
		chain:       chain,
		trustsNames: trustsNames(conf),
		passExpired: conf.Global.EnrolledExpiry == "warn",
	}, nil
}

// storeDir is where root's logins keep records for later ones: the directory that the package
// makes.
const storeDir = "/var/cache/pam_pkcs11"

// Check reports whether the certificate is good; others may be its issuers. The error is a
// *verify.Error or ctx's.
//
// One that no authority of ca_dir could have issued is good where its key is enrolled, with Alone
// set in the result: then nobody but the mapper that enrolled the key may say whose it is
// (Checked).
func (k *Checker) Check(ctx context.Context, cert *certinfo.Certificate, others []*certinfo.Certificate) (*verify.Result, error) {
	result, err := k.verifier.Check(ctx, cert, others)
	// An authority that may have issued the certificate has the last word, be its key enrolled or
	// not: else a revoked card came in by its entry in the list.
	if err == nil || !k.chain.Enrols(cert) || !k.verifier.StandsAlone(cert, others) {
		return result, err
	}
	return k.verifier.CheckAlone(cert, others, k.passExpired)
}

// asOf is a checker with the same rules, for which it is always the given time and which asks
// nobody about revocation.
func (k *Checker) asOf(at time.Time) *Checker {
	then := *k
	then.verifier = k.verifier.AsOf(at)
	return &then
}

// Checked is a certificate for the mappers, with the chain that its check built; result may be nil.
func Checked(cert *certinfo.Certificate, result *verify.Result) mapper.Checked {
	if result == nil || !result.Anchored {
		return mapper.Checked{Cert: cert, Alone: result != nil && result.Alone}
	}
	return mapper.Checked{Cert: cert, Chain: result.Chain}
}

// Find returns whose certificate it is, as a login without a user name does.
func (k *Checker) Find(ctx context.Context, cert mapper.Checked) (mapper.Result, error) {
	return k.chain.Find(ctx, cert, k.trustsNames)
}

// Explain shows what every mapper says; with a user, whether the certificate is his.
func (k *Checker) Explain(ctx context.Context, cert mapper.Checked, user string) ([]mapper.Explanation, error) {
	return k.chain.Explain(ctx, cert, user, k.trustsNames)
}

// match returns how the certificate is the user's, as a login with a user name asks it.
func (k *Checker) match(ctx context.Context, cert mapper.Checked, user string) (mapper.Result, error) {
	return k.chain.Match(ctx, cert, user, k.trustsNames)
}

// expect announces the certificates that a card shows, before their checks begin.
func (k *Checker) expect(ctx context.Context, shown []*certinfo.Certificate, user string) {
	k.verifier.Expect(shown...)
	k.chain.Expect(ctx, shown, user, k.trustsNames)
}

// expectCard lets the first mapper connect to its server, if it has one, before the card is read.
func (k *Checker) expectCard(ctx context.Context, user string) {
	k.chain.Expect(ctx, nil, user, k.trustsNames)
}

// VerifyOptions are the configuration's rules for certificates, with the system's clock and without
// a log.
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

	// A field that is forgotten here is a check that is silently off.
	return verify.Options{
		CADir:  m.CADir,
		CRLDir: m.CRLDir,
		Policy: verify.Policy{
			CA:        m.Policy.CA,
			Signature: m.Policy.Signature,
			CRL:       m.Policy.CRL,
			OCSP:      m.Policy.OCSP,
		},
		EKU: verify.EKU{
			Ignore:   m.EKU.Ignore,
			Required: purposes,
		},
		StrictPermissions: conf.Global.StrictPermissions,

		PartialChain:       m.Chain.Partial,
		V1Anchors:          m.Chain.V1Anchors,
		AllowSHA1:          m.Chain.AllowSHA1,
		MinRSABits:         m.Chain.MinRSABits,
		ClockSkew:          m.Chain.ClockSkew,
		RequiredPolicies:   policies,
		RequireAllPolicies: m.Chain.RequireAllPolicies,
		ExpiryWarningDays:  m.Chain.ExpiryWarningDays,

		CRLLeafOnly:    m.CRL.LeafOnly,
		CRLGrace:       m.CRL.Grace,
		CRLURLs:        m.CRL.URLs,
		MaxCRLSize:     m.CRL.MaxSize,
		Proxy:          m.Proxy,
		NoProxy:        m.NoProxy,
		CRLMirrors:     crlMirrors(m.CRL.Mirrors),
		CRLLDAPServers: m.CRL.LDAPServers,
		Soft:           m.SoftRevocation,

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

func objectIdentifiers(dotted []string) ([]asn1.ObjectIdentifier, error) {
	var list []asn1.ObjectIdentifier
	for _, d := range dotted {
		var oid asn1.ObjectIdentifier
		for _, arc := range strings.Split(d, ".") {
			n, err := strconv.Atoi(arc)
			// Atoi takes a sign, too, and an arc has none.
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%q is not an object identifier", d)
			}
			oid = append(oid, n)
		}

		list = append(list, oid)
	}
	return list, nil
}
