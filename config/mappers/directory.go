package mappers

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Directory is the servers of a block, and how they are asked.
type Directory struct {
	URIs      []string // of uri, in their order
	Host      string   // a URI made of ldaphost and ldapport, the last; "" is none
	SRVDomain string   // whose SRV records name more

	BindDN       string
	Password     string
	PasswordFile string
	SASLExternal bool

	TLS      string // off, tls (StartTLS) or ssl; "": tls, except to this machine
	TLSFiles TLSFiles

	Bases         []string // one at least
	Scope         int      // as in LDAP: 0 base, 1 one level, 2 the subtree
	Filter        string   // of the user's entry, with %s for the login
	UIDAttribute  string   // that holds the login; "": the one that Filter compares
	UIDAssumed    bool     // UIDAttribute is not written in the file
	IgnoreCase    bool     // of logins
	SearchTimeout time.Duration
	Referrals     bool
	CacheHours    int
}

// TLSFiles are the files that TLS to a server needs.
type TLSFiles struct {
	CAFile, CADir string
	Cert, Key     string
	Unchecked     bool // the server's certificate is not looked at
}

// maxServers bounds the servers that are written down.
const maxServers = 10

// HasPassword reports whether there is one to bind with.
func (d Directory) HasPassword() bool { return d.Password != "" || d.PasswordFile != "" }

// Configured reports whether there is a server to ask.
func (d Directory) Configured() bool {
	return len(d.URIs) > 0 || d.Host != "" || d.SRVDomain != ""
}

// contradiction is that of the keys that ldap and certmap share.
func (d Directory) contradiction() *Fault {
	if (d.TLSFiles.Cert == "") != (d.TLSFiles.Key == "") {
		return &Fault{Key: "tls_cert", Err: errors.New("tls_cert and tls_key belong together")}
	}
	if c := d.bindContradiction(); c != nil {
		return c
	}

	servers := len(d.URIs)
	if d.Host != "" {
		servers++
	}
	if servers > maxServers {
		return &Fault{Key: "uri",
			Err: fmt.Errorf("%d servers, at most %d are allowed", servers, maxServers)}
	}
	return nil
}

func (d Directory) bindContradiction() *Fault {
	switch {
	case d.Password != "" && d.PasswordFile != "":
		return &Fault{Key: "passwd_file",
			Err: errors.New("passwd and passwd_file contradict each other")}
	case d.SASLExternal && d.BindDN != "":
		return &Fault{Key: "sasl_mech",
			Err: errors.New("sasl_mech = EXTERNAL and binddn contradict each other")}
	case d.SASLExternal, d.BindDN != "", !d.HasPassword():
		return nil
	}

	// The place is that of the key that is written.
	key := "passwd"
	if d.PasswordFile != "" {
		key = "passwd_file"
	}
	return &Fault{Key: key, Err: errors.New("a password without binddn")}
}

// uidContradiction refuses a uid_attribute that is no attribute description.
func (d Directory) uidContradiction() *Fault {
	if d.UIDAttribute != "" && !IsAttribute(d.UIDAttribute) {
		return &Fault{Key: "uid_attribute",
			Err: fmt.Errorf("uid_attribute = %q is no attribute", d.UIDAttribute)}
	}
	return nil
}

// LDAP searches a directory for the certificate, or for what stands in it.
type LDAP struct {
	Directory
	Attribute        string // that holds the certificate
	CertificateMatch string // auto, filter, exact, compare or off
	AttributeMap     []Element
	Windows          bool // active_directory
	AllowWeak        bool // allow_weak_mapping
}

// Element is one element of attribute_map: conditions that must all hold.
type Element struct {
	Text       string // as it is written
	Conditions []Condition
}

// Contradiction implements Settings.
func (s LDAP) Contradiction() *Fault {
	if c := s.Directory.contradiction(); c != nil {
		return c
	}

	switch {
	case !IsAttribute(s.Attribute):
		return &Fault{Key: "attribute",
			Err: fmt.Errorf("attribute = %q is no attribute", s.Attribute)}
	case len(s.AttributeMap) == 0 && s.CertificateMatch == "off":
		return &Fault{
			Key: "certificate_match",
			Err: errors.New(
				"certificate_match = off without attribute_map leaves nothing to search for"),
		}
	}
	return s.uidContradiction()
}

// Certmap goes by rules in the language of sss-certmap.
type Certmap struct {
	Directory
	Domain string // that the block asks
	Rules  []Rule
}

// Rule is one rule of a certmap mapper.
type Rule struct {
	Name     string
	Priority int    // -1: after all others
	Match    string // "" is the default
	Map      string // "" is the default
	Domains  []string

	Line, Col int // of the block, 1-based
}

// maxRules bounds a block.
const maxRules = 1000

// Contradiction implements Settings.
func (s Certmap) Contradiction() *Fault {
	if c := s.Directory.contradiction(); c != nil {
		return c
	}
	if c := s.uidContradiction(); c != nil {
		return c
	}

	switch {
	case len(s.Rules) == 0:
		return &Fault{Err: errors.New("there is no block rule NAME { } in it")}
	case len(s.Rules) > maxRules:
		return &Fault{Err: fmt.Errorf("more than %d rules", maxRules)}
	case s.Domain != "" || !s.Configured():
		return nil
	}

	// With a directory whose domain is not known nobody can say whether such a rule counts there.
	for i := range s.Rules {
		if len(s.Rules[i].Domains) > 0 {
			return &Fault{
				Rule: &s.Rules[i],
				Err: errors.New(
					"the rule has domains, and the block does not say its own (domain = ...)"),
			}
		}
	}
	return nil
}

// CountsFor reports whether a rule counts in a domain.
func (r Rule) CountsFor(domain string) bool {
	if len(r.Domains) == 0 {
		return true
	}
	for _, d := range r.Domains {
		if strings.EqualFold(d, domain) {
			return true
		}
	}
	return false
}
