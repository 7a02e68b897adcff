package verify

import (
	"encoding/asn1"
	"log/slog"
	"net"
	"time"

	"pam_pkcs11/verify/crl/store"
)

// Policy is what cert_policy asks for.
type Policy struct {
	CA        bool   // a chain to a CA of ca_dir
	Signature bool   // proof of the private key; made by the caller with CheckSignature
	CRL       string // "", "offline", "online" or "auto"
	OCSP      bool
}

// Options of a Verifier. The zero value checks validity dates and usages only.
type Options struct {
	CADir             string // file or directory; read when Policy.CA is set
	CRLDir            string // file or directory of CRLs; read when a certificate needs one
	Policy            Policy
	EKU               EKU
	StrictPermissions bool // refuse, not only report, files of ca_dir and crl_dir that a group may write

	PartialChain bool // every CA certificate of ca_dir is an anchor, not only the self-signed ones
	V1Anchors    bool // anchors without basicConstraints are authorities too (v1_anchors)
	AllowSHA1    bool // SHA-1 signatures in the chain; older hashes are never accepted
	MinRSABits   int  // shortest RSA and DSA key; 0 means 2048, lower than 1024 counts as 1024
	ClockSkew    time.Duration

	RequiredPolicies   []asn1.ObjectIdentifier // certificate policies of which one must be valid for the chain
	RequireAllPolicies bool                    // each of them must be

	CRLLeafOnly bool          // crl_scope = leaf: revocation of the certificate alone, not of the CAs above it
	CRLGrace    time.Duration // how long after its nextUpdate a CRL still proves a certificate good
	MaxCRLSize  int64         // in octets; 0 means 512 MiB
	CRLURLs     []string      // beside those of certificates: http, https, ldap, ldaps or file; may be on this machine
	CRLMirrors  []CRLMirror   // where the addresses of certificates are asked instead; may be on this machine

	// CRLLDAPServers, ldap://HOST or ldaps://HOST, are asked for addresses of certificates that
	// name no server; may be on this machine.
	CRLLDAPServers []string

	NoProxy   []string      // hosts, .domains, addresses and networks that are reached without Proxy
	Proxy     string        // http://HOST:PORT for http and https, "" for none
	CRLPeriod time.Duration // between two runs of UpdateCRLs; 0: not known, LongestCRLPeriod at most
	Resolver  *net.Resolver // of the names in addresses; nil: the system's
	StoreDir  string        // DefaultStore, or "" to keep nothing; written to by its owner only

	OCSP OCSPOptions // how responders are asked, with Policy.OCSP
	Soft bool        // revocation = soft: go on, and log it, when nothing can be found out about revocation

	ExpiryWarningDays int // set Result.ExpiresSoon in the last days before the certificate runs out; 0: never

	hooks store.Hooks // what tests change

	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: silent
}

// minRSABits is the length that holds when Options.MinRSABits is 0, lowestRSABits the one below
// which nothing helps.
const (
	minRSABits    = 2048
	lowestRSABits = 1024
)
