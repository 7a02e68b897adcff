package store

import (
	"net/url"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
)

// Where the list of a distribution point's address is asked for: at the address, at the site's own
// mirror, or at a directory server where it names none.

// Mirror maps addresses that begin with From to To and the rest (crl_mirror). Both end with
// /, or neither does and only the whole address From is meant.
type Mirror struct{ From, To string }

// placesOf lists where an address from a certificate is asked; each of them may have its list. What
// the administrator wrote may be on this machine.
func (k *Keeper) placesOf(written string, delta bool) (all []address) {
	if contains(k.options.URLs, written) {
		return []address{{url: written, configured: true, delta: delta}}
	}

	for _, m := range k.options.Mirrors {
		if to, ok := m.target(written); ok {
			return []address{{url: to, configured: true, delta: delta}}
		}
	}

	if scheme, rest, without := withoutServer(written); without {
		for _, server := range k.options.LDAPServers {
			// Nothing turns an ldaps address into an ldap one.
			if scheme == "ldap" || strings.HasPrefix(server, "ldaps:") {
				all = append(all, address{url: server + rest, configured: true, delta: delta})
			}
		}
		if len(all) > 0 {
			return all
		}
	}
	return []address{{url: written, delta: delta}}
}

// target returns the mirror's address. A rest that could climb out of it is not followed: the
// address is in a certificate, and the mirror in the site's own network.
func (m Mirror) target(written string) (string, bool) {
	scheme, rest, found := strings.Cut(written, "://")
	if !found {
		return "", false
	}

	// Scheme and host are compared without case (RFC 3986, 6.2.2.1), the path with it.
	host, path, _ := strings.Cut(rest, "/")
	plain := strings.ToLower(scheme) + "://" + strings.ToLower(host) + "/" + path
	fromScheme, fromRest, _ := strings.Cut(m.From, "://")
	fromHost, fromPath, _ := strings.Cut(fromRest, "/")
	from := strings.ToLower(fromScheme) + "://" + strings.ToLower(fromHost) + "/" + fromPath

	if plain == from {
		return m.To, true
	}

	behind, begins := strings.CutPrefix(plain, from)
	directories := strings.HasSuffix(m.From, "/") && strings.HasSuffix(m.To, "/")
	if !begins || !directories || climbs(behind) {
		return "", false
	}
	return m.To + behind, true
}

// climbs reports whether a path has a segment that leads upwards, however it is written.
func climbs(path string) bool {
	// Only the path climbs; a query may have dots.
	path, _, _ = strings.Cut(path, "?")
	plain, err := url.PathUnescape(path)
	if err != nil {
		return true
	}

	// Windows servers take backslashes for slashes.
	for _, segment := range strings.FieldsFunc(plain, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment == ".." || segment == "." {
			return true
		}
	}
	return false
}

// withoutServer reports whether an address is like ldap:///CN=..., which stands for the nearest
// directory (RFC 4516, 2), and returns what is behind the place of the server.
func withoutServer(written string) (scheme, rest string, ok bool) {
	scheme, rest, found := strings.Cut(written, "://")
	scheme = strings.ToLower(scheme)
	return scheme, rest, found && (scheme == "ldap" || scheme == "ldaps") && strings.HasPrefix(rest, "/")
}

// noServer reports whether an address names no server, and the configuration has none for it.
func (k *Keeper) noServer(written string) bool {
	all := k.placesOf(written, false)
	_, _, without := withoutServer(all[0].url)
	return without
}

// passedOver lists which addresses of a certificate's distribution points are not followed as they
// are written, and what cures that: a key that names another place, and no weaker rule. Without the
// network no address is asked.
func (k *Keeper) passedOver(cert *certinfo.Certificate, network bool) (whys, cures []string) {
	add := func(why string, cure ...string) {
		whys = append(whys, why)
		for _, c := range cure {
			if !contains(cures, c) {
				cures = append(cures, c)
			}
		}
	}

	for i := range cert.CRLDistributionPoints {
		p := &cert.CRLDistributionPoints[i]
		if p.Name == nil {
			continue
		}
		for _, n := range p.Name.FullName {
			if n.Tag != certinfo.TagURI || !n.OK {
				continue
			}
			scheme, _, _ := strings.Cut(n.Text, ":")
			// A file is read only where the configuration names it: a
			// certificate must not choose files.
			switch {
			case network && k.noServer(n.Text):
				add("its distribution point "+refusal.Clip(n.Text)+" names no server",
					"crl_ldap_server = ldap://HOST", urlCure)
			case strings.EqualFold(scheme, "file") && !contains(k.options.URLs, n.Text):
				add("its distribution point "+refusal.Clip(n.Text)+
					" was passed over: files are read where the configuration names them", urlCure)
			}
		}
	}

	return whys, cures
}

const urlCure = "crl_url = the address or file of the list"
