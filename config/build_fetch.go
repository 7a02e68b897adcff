package config

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/schema"
)

// maxLDAPServers bounds what one distribution point without a server makes a login ask.
const maxLDAPServers = 8

// fillFetching reads how lists are reached.
func (b *builder) fillFetching(v schema.Values) {
	m := &b.conf.Module
	m.NoProxy = b.noProxy(v)
	m.CRL.Mirrors = b.mirrors(v)
	m.CRL.LDAPServers = b.ldapServers(v)

	if len(m.NoProxy) > 0 && m.Proxy == "" {
		b.Note(v.Get("no_proxy").At, finding.NoteNoEffect, "no_proxy has no effect without proxy")
	}

	for _, key := range []string{"crl_mirror", "crl_ldap_server"} {
		if v.Set(key) && m.Policy.CRL == "" {
			b.Note(v.Get(key).At, finding.NoteNoEffect, key+
				" has no effect without a crl word in cert_policy")
		}
	}
}

const hostLabel = `[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?`

var exceptionHost = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\.?` + hostLabel + `(\.` + hostLabel + `)*$`)
})

// noProxy reads the exceptions of the proxy.
func (b *builder) noProxy(v schema.Values) (all []string) {
	val := v.Get("no_proxy")
	for i, text := range val.Texts {
		for _, word := range strings.Fields(text) {
			_, netErr := netip.ParsePrefix(word)
			_, addrErr := netip.ParseAddr(word)
			isHost := exceptionHost().MatchString(word) && !looksLikeAddress(word)

			// A word that fits no host would send a request through the proxy that was meant to go
			// past it.
			if netErr != nil && addrErr != nil && !isHost {
				b.refuse(val.Place(i), finding.Quote(word)+" is not a host, a domain or a network",
					"write HOST, .DOMAIN, an address or NETWORK/BITS, without a port")
				continue
			}

			all = append(all, word)
		}
	}
	return all
}

// looksLikeAddress reports whether a word ends with a number, as no host's name does: it is an
// address with a slip in it.
func looksLikeAddress(word string) bool {
	last := word[strings.LastIndexByte(word, '.')+1:]
	return strings.Trim(last, "0123456789") == ""
}

// mirrors reads FROM -> TO, as one text each or as three words.
func (b *builder) mirrors(v schema.Values) (all []Mirror) {
	val := v.Get("crl_mirror")

	// Three words make one mirror, whether they were written in one pair of quotes or apart.
	words := strings.Fields(strings.Join(val.Texts, " "))
	for len(words) > 0 {
		if len(words) < 3 || words[1] != "->" {
			b.refuse(val.At, "crl_mirror is not FROM -> TO",
				"write http://HOST/PATH/ -> http://MIRROR/PATH/")
			return nil
		}

		mirror := Mirror{From: words[0], To: words[2]}
		if why := mirror.fault(); why != "" {
			b.refuse(val.At, why, "write http://HOST/PATH/ -> http://MIRROR/PATH/")
		}

		all = append(all, mirror)
		words = words[3:]
	}
	return all
}

// fault is what is wrong with a mirror; "" when nothing is.
func (m Mirror) fault() string {
	for _, text := range []string{m.From, m.To} {
		u, err := url.Parse(text)
		good := err == nil && u.User == nil && u.Fragment == "" && len(u.Path) > 0
		if good {
			switch u.Scheme {
			case "http", "https":
				good = u.Hostname() != ""
			case "ldap", "ldaps":
				// Only FROM may be without a server, as distribution points of Active Directory are: ldap:///CN=...
				good = u.Hostname() != "" || text == m.From
			default:
				good = false
			}
		}

		if !good {
			return "crl_mirror: " + finding.Quote(text) + " is not an address with a path"
		}
	}

	// What stands behind FROM is appended to TO: a slash more or less would make another address.
	if strings.HasSuffix(m.From, "/") != strings.HasSuffix(m.To, "/") {
		return "crl_mirror: of " + finding.Quote(m.From) + " and " + finding.Quote(m.To) +
			" only one ends with /"
	}
	return ""
}

// ldapServers reads crl_ldap_server.
func (b *builder) ldapServers(v schema.Values) (all []string) {
	val := v.Get("crl_ldap_server")
	for i, text := range val.Texts {
		for _, word := range strings.Fields(text) {
			server := serverOnly(word)
			if server == "" {
				b.refuse(val.Place(i), finding.Quote(word)+" is not a directory server",
					"write ldap://HOST or ldaps://HOST")
				continue
			}
			all = append(all, server)
		}
	}

	if len(all) > maxLDAPServers {
		b.refuse(val.Place(maxLDAPServers), "more than 8 servers in crl_ldap_server",
			"name those that are near")
	}
	return all
}

// serverOnly is an LDAP URI without what stands behind the server; "" for anything else.
func serverOnly(text string) string {
	u, err := url.Parse(text)
	isLDAP := err == nil && (u.Scheme == "ldap" || u.Scheme == "ldaps")
	if !isLDAP || u.Hostname() == "" || u.User != nil {
		return ""
	}

	// A base or filter in it is that of another question than for a CRL.
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// fillLDAPServers takes the servers of the ldap mappers in use where crl_ldap_server names none.
func (b *builder) fillLDAPServers() {
	for _, m := range b.conf.Modules {
		if len(m.CRL.LDAPServers) == 0 && m.Policy.CRL != "" {
			m.CRL.LDAPServers = b.mapperServers()
		}
	}

	// conf.Module is a copy of the first block, and has to show its servers too.
	if len(b.conf.Modules) > 0 {
		b.selectBlock(0)
	}
}

// mapperServers are the servers of the ldap mappers in use.
func (b *builder) mapperServers() (servers []string) {
	for _, m := range b.conf.Mappers {
		if m.Type != "ldap" {
			continue
		}

		// One value of uri may hold several, separated by blanks.
		written := strings.Fields(strings.Join(m.Values.List("uri"), " "))
		if host := m.Values.String("ldaphost"); len(host) > 1 {
			written = append(written, hostURI(host, m.Values.Int("ldapport")))
		}

		for _, text := range written {
			if server := serverOnly(text); server != "" && len(servers) < maxLDAPServers {
				servers = append(servers, server)
			}
		}
	}
	return servers
}
