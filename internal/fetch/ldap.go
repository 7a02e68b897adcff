package fetch

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"

	"pam_pkcs11/internal/ldapconn"
)

// getLDAP fetches the first value of the attribute that an LDAP URL names (RFC 4516), as
// distribution points write it: ldap://host/DN?certificateRevocationList;binary?base?(filter). The
// bind is anonymous.
func (c *Client) getLDAP(ctx context.Context, u *url.URL) (*Answer, error) {
	query, err := ldapQuery(u)
	if err != nil {
		return nil, err
	}

	// Of c.LDAP only limits and TLS hold: the address names the server.
	config := c.LDAP
	config.URIs = []string{u.Scheme + "://" + u.Host}
	config.Bind = ldapconn.Anonymous
	config.Control = c.checkAddress
	config.Resolver = c.Resolver
	config.MaxBytes = c.maxBytes()
	config.ConnectTimeout = deadlineOf(ctx, ldapconn.DefaultConnectTimeout)

	conn, err := ldapconn.Dial(ctx, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	entries, err := conn.Search(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u, err)
	}
	// An entry without the attribute may stand beside the one that has it.
	for _, e := range entries {
		if values := e.Get(strings.TrimSuffix(query.Attributes[0], ";binary")); len(values) > 0 {
			return &Answer{Body: io.NopCloser(bytes.NewReader(values[0])), Size: int64(len(values[0]))}, nil
		}
	}

	return nil, fmt.Errorf("%s: no such entry or attribute", u)
}

// getLDAPI fetches from a directory behind a socket of this machine:
// ldapi://%2Frun%2Fslapd%2Fldapi/DN?attribute. net/url refuses the path in the place of the host,
// so the host is set after parsing.
func (c *Client) getLDAPI(ctx context.Context, address string) (*Answer, error) {
	socket, rest, _ := strings.Cut(strings.TrimPrefix(address, "ldapi://"), "/")
	if len(address) > maxURL || strings.ContainsAny(socket, "?#@") {
		return nil, fmt.Errorf("%w: %s: expected ldapi://SOCKET/DN?attribute", ErrAddress, address)
	}

	u, err := url.Parse("ldapi://socket/" + rest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}

	u.Host = socket
	return c.getLDAP(ctx, u)
}

// ldapQuery reads DN, attribute, scope and filter of an LDAP URL (RFC 4516, 2).
func ldapQuery(u *url.URL) (ldapconn.Query, error) {
	parts := strings.Split(u.RawQuery, "?")
	for i, p := range parts {
		plain, err := url.PathUnescape(p)
		if err != nil {
			return ldapconn.Query{}, fmt.Errorf("%w: %s: %w", ErrAddress, u, err)
		}
		parts[i] = plain
	}
	// Fields at the end may be left out.
	for len(parts) < 3 {
		parts = append(parts, "")
	}

	if parts[0] == "" || strings.Contains(parts[0], ",") {
		return ldapconn.Query{}, fmt.Errorf("%w: %s: expected one attribute", ErrAddress, u)
	}

	q := ldapconn.Query{
		Base:       strings.TrimPrefix(u.Path, "/"),
		Filter:     "(objectClass=*)",
		Attributes: []string{parts[0]},
		MaxEntries: 4,
	}
	switch strings.ToLower(parts[1]) {
	case "", "base":
	case "one":
		q.Scope = ldapconn.ScopeOne
	case "sub":
		q.Scope = ldapconn.ScopeSub
	default:
		return q, fmt.Errorf("%w: %s: unknown scope %q", ErrAddress, u, parts[1])
	}

	switch filter := parts[2]; {
	case filter == "":
	case strings.HasPrefix(filter, "("):
		q.Filter = filter
	// Active Directory leaves the parentheses out.
	default:
		q.Filter = "(" + filter + ")"
	}
	return q, nil
}
