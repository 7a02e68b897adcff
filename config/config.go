package config

import (
	"regexp"
	"slices"
	"time"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// Config is a configuration without faults.
type Config struct {
	File   string // as given, for messages
	Global Global
	// Module is the block that is meant here: the first of Modules, in a Config of Block another.
	Module  Module
	Modules []*Module // those in use, in the order of use_pkcs11_module; at least one
	Mappers []Mapper  // those in use, in the order of use_mappers
	Notes   []finding.Note

	global schema.Values   // as written, for the places of keys
	blocks []schema.Values // the same of each of Modules
	block  int             // which of them Module is

	arguments *Arguments // of the module's line; never nil
	services  []*service
}

// Block returns the configuration as it is for the cards of one block, Modules[i]: with that block
// as Module. Everything else is the same.
func (c *Config) Block(i int) *Config {
	conf := *c
	conf.Module = *c.Modules[i]
	conf.block = i
	return &conf
}

// Fault makes an error about a key of the block pkcs11_module or pam_pkcs11, with the place where
// it is written or, where its default or an argument counts, without one.
func (c *Config) Fault(key string, err error) *finding.Error {
	e := &finding.Error{File: c.File, Text: err.Error(), Cause: err}

	// The block pkcs11_module first: where both have a key, it is the nearer one.
	written := []schema.Values{c.global}
	if c.block < len(c.blocks) {
		written = slices.Insert(written, 0, c.blocks[c.block])
	}

	for _, block := range written {
		if block.Has(key) && block.Set(key) {
			at := block.Get(key).At
			e.Line, e.Col = at.Line, at.Col
			break
		}
	}

	return e
}

// WithCard is the configuration for somebody who must use a card: there is no other way in, and no
// program in which he needs none.
func (c *Config) WithCard() *Config {
	conf := *c
	conf.Global.CardOnly = true
	conf.Global.ScreenSavers = nil

	// Both could let the login go on in the stack without a card.
	conf.Global.ForeignCard = "refuse"
	conf.Global.EmptyPIN = "error"
	return &conf
}

// WithOrWithoutCard is the configuration for somebody for whom a card is one way of several.
func (c *Config) WithOrWithoutCard() *Config {
	conf := *c
	conf.Global.CardOnly = false
	conf.Global.ForeignCard = "skip"
	return &conf
}

// service is a block, in use by the services of its names.
type service struct {
	names  []scconf.Word
	values schema.Values
}

// Global is the settings of the block pam_pkcs11, module arguments applied. The schema documents
// each.
type Global struct {
	NullOK, Debug, Quiet           bool
	ErrDisplayTime                 time.Duration // 0 to 60 s
	UseFirstPass                   bool
	TryFirstPass                   bool
	CardOnly, WaitForCard          bool
	WaitForCardTimeout             time.Duration // 1 to 600 s
	ScreenSavers                   []string      // PAM service names
	StrictPermissions              bool
	ForeignCard                    string // "refuse" or "skip"
	CertificatesAfterPIN           string // "auto", "yes" or "no"
	AskCertificate                 bool
	RequirePIN                     bool
	PINPattern                     *regexp.Regexp // nil when not set; anchored at both ends
	EmptyPIN                       string         // "error" or "fallback"
	ForwardPIN                     string         // "off" or "success"
	RemoteLogin                    string         // "refuse" or "allow"
	RemoteLoginHides               bool           // only with ForeignCard "refuse"
	LoopbackIsLocal                bool
	UnverifiedNames                bool
	AllowUnknownUser               bool
	DirectoryMayNameSystemAccounts bool
	EnrolledFile                   string // absolute path
	EnrolledExpiry                 string // "warn" or "refuse"
	EnrolledRoot                   bool
	VerifyTimeout                  time.Duration // 1 to 300 s
	MetricsFile                    string        // absolute, or "" for none
	Persons                        Persons
}

// Persons says who must, may or must not use a card. The zero value says nothing: foreign_card and
// card_only do then.
type Persons struct {
	Required  People // who must
	Optional  People // who may
	Forbidden People // who must not
	Others    string // who is in no list: "" or "configured", "required", "optional" or "forbidden"
}

// People are users and members of groups, by the names that the name service has for them.
type People struct{ Users, Groups []string }

// Empty reports whether nobody is named.
func (p People) Empty() bool { return len(p.Users) == 0 && len(p.Groups) == 0 }

// Empty reports whether all users are treated alike, as foreign_card and card_only say.
func (p Persons) Empty() bool {
	return p.Required.Empty() && p.Optional.Empty() && p.Forbidden.Empty() &&
		!p.othersAre("required", "optional", "forbidden")
}

// Requires reports whether there may be somebody who must use a card.
func (p Persons) Requires() bool { return !p.Required.Empty() || p.othersAre("required") }

// Forbids reports whether there may be somebody who must not use a card.
func (p Persons) Forbids() bool { return !p.Forbidden.Empty() || p.othersAre("forbidden") }

// allows reports whether there may be somebody for whom a card is one way of several.
func (p Persons) allows() bool { return !p.Optional.Empty() || p.othersAre("optional") }

func (p Persons) othersAre(words ...string) bool { return slices.Contains(words, p.Others) }

// Module is the settings of a block pkcs11_module in use, module arguments applied.
type Module struct {
	// Name is that of the block; "" when an argument named a library and there is no block.
	Name            string
	Builtin         bool   // module = builtin: PIV cards, without a library
	Path            string // of the library, as written; "" where Builtin is set
	Description     string
	TokenType       string // for prompts
	SlotNum         int    // 0, or 1-based place in the slot list
	SlotDescription string // prefix, "none", or ""
	TokenLabel      string
	TokenURI        string // RFC 7512, begins with pkcs11:
	SupportThreads  bool
	CADir, CRLDir   string   // absolute
	Environment     []string // NAME=value

	PIVKeys    []byte // references of keys, in their order; of Builtin
	PIVCache   bool   // of Builtin
	PIVLock    string // "found", "always" or "never"; of Builtin
	PIVLabel   string // "opensc" or "opensc-0.23"; of Builtin
	PCSCSocket string // absolute path; "": the known sockets
	CardAccess string // "system", "bundled" or "auto"; for a library "" where it is not written

	Policy         Policy
	EKU            EKU
	Chain          Chain
	CRL            CRL
	Proxy          string   // http://HOST:PORT, or ""
	NoProxy        []string // hosts, domains, addresses and networks that are reached without Proxy
	SoftRevocation bool     // revocation = soft
	OCSP           OCSP
}

// EKU is what the extended key usage must allow.
type EKU struct {
	Ignore bool
	// Required are object identifiers; empty: clientAuth, smartcardLogon or any, where the
	// extension is present.
	Required []string
}

// Source is what the log calls the source of the cards.
func (m *Module) Source() string {
	if m.Builtin {
		return "the built-in card"
	}
	return m.Path
}

// FindsDaemon reports whether the daemon of the readers is found for a library
// (PCSCLITE_CSOCK_NAME), rather than by the library alone.
func (m *Module) FindsDaemon() bool {
	return !m.Builtin && (m.PCSCSocket != "" || m.CardAccess != "")
}

// Chain is what the chain of a certificate must be like.
type Chain struct {
	Partial            bool
	V1Anchors          bool // anchors without basicConstraints are authorities
	AllowSHA1          bool
	MinRSABits         int
	ClockSkew          time.Duration
	RequiredPolicies   []string // object identifiers
	RequireAllPolicies bool
	ExpiryWarningDays  int // 0: never
}

// CRL is how revocation lists are found, and for how long they count.
type CRL struct {
	LeafOnly bool          // crl_scope = leaf
	Grace    time.Duration // after nextUpdate
	URLs     []string      // http, https, ldap, ldaps or file
	MaxSize  int64         // octets
	Mirrors  []Mirror      // crl_mirror

	// LDAPServers are for distribution points that name none: ldap://HOST[:PORT] or ldaps.
	LDAPServers []string
}

// Mirror is where a site serves lists itself: what begins with From is asked at To. Both end with
// /, or neither does and whole addresses are meant.
type Mirror struct{ From, To string }

// OCSP is how responders are asked.
type OCSP struct {
	URLs           []string // http or https, asked before those of the certificate
	ResponderCerts []string // absolute paths of files and directories
	Nonce          string   // "optional", "required" or "off"
	MaxAge         time.Duration

	DelegateWithoutStatus bool // ocsp_delegate_without_status = accept
}
