package ldapconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// lookupTimeout bounds one question to the name service.
const lookupTimeout = 2 * time.Second

// Lookup finds the servers of a domain by its SRV records (RFC 2782), in the order of their
// priorities and weights, as URIs with the given scheme, ldap or ldaps. The records are not
// authenticated, and a server's certificate is compared with the name that they give. So names
// outside of the domain are left out: else an attacker could name a host of his own, with a valid
// certificate for it. r may be nil.
func Lookup(ctx context.Context, r *net.Resolver, scheme, domain string) ([]string, error) {
	if r == nil {
		r = net.DefaultResolver
	}

	domain = strings.ToLower(strings.Trim(domain, "."))
	if domain == "" || strings.ContainsAny(domain, " /\\@:%?#\x00") {
		return nil, fmt.Errorf("%q is not a domain", domain)
	}

	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()

	_, records, err := r.LookupSRV(ctx, scheme, "tcp", domain)
	if err != nil {
		return nil, fmt.Errorf("SRV records of _%s._tcp.%s: %w", scheme, domain, err)
	}

	var uris []string
	for _, record := range records {
		host := strings.ToLower(strings.TrimSuffix(record.Target, "."))
		isInside := host == domain || strings.HasSuffix(host, "."+domain)
		if !isInside || record.Port == 0 {
			continue
		}
		// Dial refuses a longer list.
		if len(uris) < maxServers {
			uris = append(uris, fmt.Sprintf("%s://%s", scheme, net.JoinHostPort(host, fmt.Sprint(record.Port))))
		}
	}

	if len(uris) == 0 {
		return nil, fmt.Errorf("SRV records of _%s._tcp.%s name no server in that domain", scheme, domain)
	}
	return uris, nil
}

// Referral says where another server is to be asked, read from an LDAP URL (RFC 4516).
type Referral struct {
	URI    string // scheme, host and port alone
	Base   string // "" keeps the query's
	Scope  Scope
	Scoped bool // Scope is given
}

// ParseReferral reads the URL of a referral. One with a filter is an error, since a server must not
// change the question; and so is one with a critical extension.
func ParseReferral(text string) (*Referral, error) {
	u, err := url.Parse(text)
	isURL := err == nil && u.Host != "" && u.User == nil
	if !isURL || u.Scheme != "ldap" && u.Scheme != "ldaps" {
		return nil, fmt.Errorf("referral to %.200q is not understood", text)
	}
	r := &Referral{URI: u.Scheme + "://" + u.Host, Base: strings.TrimPrefix(u.Path, "/")}

	// Attributes, scope, filter and extensions: each may be left out at the end (RFC 4516, 2).
	parts := strings.Split(u.RawQuery, "?")
	for len(parts) < 4 {
		parts = append(parts, "")
	}

	if parts[2] != "" || strings.Contains(parts[3], "!") {
		return nil, errors.New("referral with a filter or a critical extension")
	}

	switch strings.ToLower(parts[1]) {
	case "":
	case "base":
		r.Scope = ScopeBase
		r.Scoped = true
	case "one":
		r.Scope = ScopeOne
		r.Scoped = true
	case "sub":
		r.Scope = ScopeSub
		r.Scoped = true
	default:
		return nil, fmt.Errorf("referral with the scope %.20q", parts[1])
	}
	return r, nil
}

// Apply returns the query that the referral asks for.
func (r *Referral) Apply(q Query) Query {
	if r.Base != "" {
		q.Base = r.Base
	}
	if r.Scoped {
		q.Scope = r.Scope
	}
	return q
}
