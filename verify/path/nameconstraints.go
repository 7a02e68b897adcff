package path

import (
	"bytes"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// Name constraints (RFC 5280, 4.2.1.10; 6.1.3 (b), (c); 6.1.4 (g)), with the otherName UPN as a
// kind of its own, as Windows CAs constrain it. What cannot be decided is refused: a name of a
// constrained kind that is malformed, and a constraint that is malformed when a name of its kind is
// there.

// maxComparisons bounds the comparisons of one path.
const maxComparisons = 1 << 16

// nameState is the pair of state variables permitted_subtrees and excluded_subtrees. Each
// certificate's permitted subtrees are kept as a set of their own: a name must lie within every set
// that constrains its kind.
type nameState struct {
	permitted   [][]certinfo.GeneralName
	excluded    []certinfo.GeneralName
	comparisons int
}

// add takes the constraints of a CA certificate.
func (s *nameState) add(c *certinfo.Certificate) *refusal.Error {
	if c.NameConstraints == nil {
		return nil
	}
	if len(c.NameConstraints.Permitted) > 0 {
		s.permitted = append(s.permitted, c.NameConstraints.Permitted)
	}
	s.excluded = append(s.excluded, c.NameConstraints.Excluded...)
	return nil
}

// check compares every name of a certificate with the constraints collected so far.
func (s *nameState) check(c *certinfo.Certificate) *refusal.Error {
	if len(s.permitted) == 0 && len(s.excluded) == 0 {
		return nil
	}
	if e := rules.Unusable(c, certinfo.OIDSubjectAltName); e != nil {
		err := rules.RefuseExtension(c, *e)
		err.Detail += "; a CA above constrains names, and these cannot be held against its constraints"
		return err
	}

	for _, name := range namesOf(c) {
		if err := s.checkName(c, name); err != nil {
			return err
		}
	}

	return nil
}

// namesOf lists the subject, if it is not empty, its e-mail addresses, which older CAs write there,
// and the SANs.
func namesOf(c *certinfo.Certificate) []certinfo.GeneralName {
	var names []certinfo.GeneralName
	if len(c.Subject) > 0 {
		names = append(names, certinfo.GeneralName{Tag: certinfo.TagDirectoryName, Name: c.Subject, OK: true})
	}
	for _, a := range c.Subject.Values(certinfo.OIDEmailAddress) {
		names = append(names, certinfo.GeneralName{Tag: certinfo.TagRFC822Name, Text: a.Text, OK: a.OK})
	}
	return append(names, c.SANs...)
}

func (s *nameState) checkName(c *certinfo.Certificate, name certinfo.GeneralName) *refusal.Error {
	// Exclusions first: no permitted subtree brings back a name that
	// is excluded (RFC 5280, 4.2.1.10).
	for _, base := range s.excluded {
		if !sameKind(name, base) {
			continue
		}
		if inside, decided := s.within(name, base, true); inside || !decided {
			return s.outside(c, name, base, decided, "lies in the excluded subtree")
		}
	}

	// One subtree of a certificate is enough, but each certificate above has to allow the name.
	for _, set := range s.permitted {
		constrained := false
		inside := false
		var blame certinfo.GeneralName
		for _, base := range set {
			if !sameKind(name, base) {
				continue
			}
			constrained = true
			blame = base
			in, decided := s.within(name, base, false)
			if !decided {
				return s.outside(c, name, base, false, "")
			}
			if inside = in; inside {
				break
			}
		}

		if constrained && !inside {
			return s.outside(c, name, blame, true, "lies outside the permitted subtrees such as")
		}
	}
	return nil
}

// outside refuses a name: for a constraint that it breaks, or one that could not be compared with
// it.
func (s *nameState) outside(c *certinfo.Certificate, name, base certinfo.GeneralName, decided bool, how string) *refusal.Error {
	// Where the limit is reached, within decides nothing any more,
	// and the limit is the real reason.
	if s.comparisons > maxComparisons {
		return refusal.New(c, refusal.ReasonWork, "more than %d comparisons with name constraints", maxComparisons)
	}
	if !decided {
		how = "cannot be held against the constraint"
	}
	return refusal.New(c, refusal.ReasonNameConstraint, "name %s %s %s", refusal.Clip(name.String()), how, refusal.Clip(base.String()))
}

// sameKind reports whether a constraint is about this kind of name. The kinds of otherName differ
// by their type.
func sameKind(name, base certinfo.GeneralName) bool {
	return name.Tag == base.Tag && (name.Tag != certinfo.TagOtherName || name.OtherOID.Equal(base.OtherOID))
}

// within reports whether the name lies in the subtree; decided is false when that cannot be found
// out.
func (s *nameState) within(name, base certinfo.GeneralName, excluded bool) (inside, decided bool) {
	if s.comparisons++; s.comparisons > maxComparisons || !name.OK || !base.OK {
		return false, false
	}

	switch name.Tag {
	case certinfo.TagDirectoryName:
		return name.Name.HasPrefix(base.Name), true
	case certinfo.TagRFC822Name:
		return mailWithin(name.Text, base.Text)
	case certinfo.TagDNSName:
		return dnsWithin(name.Text, base.Text, excluded), true
	case certinfo.TagURI:
		return uriWithin(name.Text, base.Text)
	case certinfo.TagIPAddress:
		return ipWithin(name.IP, base.Raw)
	case certinfo.TagOtherName:
		return otherWithin(name, base, excluded)
	case certinfo.TagRegisteredID:
		return bytes.Equal(name.Raw, base.Raw), true
	}
	return false, false
}

// mailWithin reports whether an e-mail address lies in a mailbox, a host, or with a leading dot all
// hosts of a domain. The local part is compared octet by octet.
func mailWithin(mail, base string) (inside, decided bool) {
	at := strings.LastIndexByte(mail, '@')
	if at <= 0 {
		return false, false
	}

	local, host := mail[:at], mail[at+1:]
	if i := strings.LastIndexByte(base, '@'); i >= 0 {
		return local == base[:i] && strings.EqualFold(host, base[i+1:]), true
	}
	return base == "" || hostWithin(host, base), true
}

// hostWithin reports whether a host is the base, or with a leading dot any host of the domain but
// not the domain.
func hostWithin(host, base string) bool {
	if strings.HasPrefix(base, ".") {
		return len(host) > len(base) && strings.EqualFold(host[len(host)-len(base):], base)
	}
	return strings.EqualFold(host, base)
}

// dnsWithin reports whether a name is that of the domain or below it; with a leading dot, which RFC
// 5280 does not know and CAs write, only below. A wildcard name lies in an excluded subtree when
// one of the names it stands for does.
func dnsWithin(host, base string, excluded bool) bool {
	host, base = strings.TrimSuffix(host, "."), strings.TrimSuffix(base, ".")

	if base == "" {
		return true
	}

	// An exclusion of a.example.com has to catch *.example.com, which stands for that name too.
	if rest, wild := strings.CutPrefix(host, "*."); wild && excluded {
		if _, parent, ok := strings.Cut(strings.TrimPrefix(base, "."), "."); ok && strings.EqualFold(parent, rest) {
			return true
		}
	}

	if strings.HasPrefix(base, ".") {
		return hostWithin(host, base)
	}
	return strings.EqualFold(host, base) || hostWithin(host, "."+base)
}

// uriWithin reports whether the host of a URI lies in the subtree. A URI without a host name is not
// decided, and so refused, as RFC 5280, 4.2.1.10, wants it.
func uriWithin(uri, base string) (inside, decided bool) {
	u, err := url.Parse(uri)
	if err != nil || u.Hostname() == "" {
		return false, false
	}

	// The constraint names hosts only; an address instead of a name
	// is no host name (RFC 5280, 4.2.1.10).
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return false, false
	}

	return base == "" || hostWithin(strings.TrimSuffix(host, "."), base), true
}

// ipWithin reports whether an address lies in a subtree; base is an address and a mask of the same
// length.
func ipWithin(ip net.IP, base []byte) (inside, decided bool) {
	if len(base) != 2*len(ip) {
		return false, len(base) == 8 || len(base) == 32 // the other family: not inside
	}

	address, mask := base[:len(ip)], base[len(ip):]
	if _, size := net.IPMask(mask).Size(); size == 0 {
		return false, false // not a mask
	}

	for i := range ip {
		if ip[i]&mask[i] != address[i]&mask[i] {
			return false, true
		}
	}
	return true, true
}

// otherWithin compares user principal names by domain; other types only as equal or not, and a name
// that is not equal is not decided when it is an exclusion.
func otherWithin(name, base certinfo.GeneralName, excluded bool) (inside, decided bool) {
	upn, ok := name.UPN()
	if !ok {
		equal := bytes.Equal(name.OtherValue, base.OtherValue)
		return equal, equal || !excluded
	}

	subtree, _ := base.UPN()
	if !upn.OK || !subtree.OK {
		return false, false
	}
	return upnWithin(upn.Value, subtree.Value, excluded)
}

// upnWithin reports whether a user principal name lies in the subtree: "user@domain" is that name,
// "@domain" and "domain" the names of the domain, ".domain" those of the domains below it. A bare
// domain is read strictly when it permits, and with the domains below it when it excludes.
func upnWithin(upn, base string, excluded bool) (inside, decided bool) {
	at := strings.LastIndexByte(upn, '@')
	if at < 0 {
		return false, false
	}

	domain := upn[at+1:]
	if i := strings.LastIndexByte(base, '@'); i > 0 {
		return strings.EqualFold(upn, base), true
	}

	base = strings.TrimPrefix(base, "@")
	if hostWithin(domain, base) {
		return true, true
	}
	return excluded && !strings.HasPrefix(base, ".") && hostWithin(domain, "."+base), true
}
