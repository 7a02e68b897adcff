package ldapconn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Scope is the part of the tree that is searched (RFC 4511, 4.5.1.2).
type Scope int

const (
	ScopeBase Scope = iota
	ScopeOne
	ScopeSub
)

// Query is one search.
type Query struct {
	Base       string
	Scope      Scope
	Filter     string // RFC 4515; values in it are the caller's to escape
	Attributes []string
	MaxEntries int // more are ErrTooMany; 0 is 1000
}

// Entry is one answer. Attribute names are as the server writes them; Get compares without case and
// without options.
type Entry struct {
	DN    string
	entry *ldap.Entry
}

// Get returns all values of an attribute, of the plain name and of the name with ";binary".
func (e Entry) Get(name string) [][]byte {
	values := e.entry.GetEqualFoldRawAttributeValues(name)
	if len(values) > 0 {
		return values
	}
	return e.entry.GetEqualFoldRawAttributeValues(name + ";binary")
}

// ErrTooMany is returned when a search finds more entries than the caller can use.
var ErrTooMany = errors.New("more entries than expected")

const (
	defaultMaxEntries = 1000
	pageSize          = 500
	maxPages          = 64
)

// Search runs one query, page by page where the server pages, within the connection's search timeout and
// ctx. Referrals are counted as nothing found: following one would hand the bind password to a server that
// nobody configured.
func (c *Conn) Search(ctx context.Context, q Query) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, c.search)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { c.wire.Close() })
	defer stop()
	limit := q.MaxEntries
	if limit <= 0 {
		limit = defaultMaxEntries
	}
	var found []Entry
	paging := ldap.NewControlPaging(pageSize)
	for range maxPages {
		answer, err := c.conn.Search(request(ctx, q, limit, paging))
		if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) || ldap.IsErrorWithCode(err, ldap.LDAPResultReferral) {
			return found, nil
		}
		if err != nil && (answer == nil || !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded)) {
			return nil, errors.Join(fmt.Errorf("search: %w", err), ctx.Err())
		}
		for _, e := range answer.Entries {
			found = append(found, Entry{DN: e.DN, entry: e})
		}
		if len(found) > limit || err != nil {
			return found, ErrTooMany
		}
		if !nextPage(answer, paging) {
			return found, nil
		}
	}
	return found, fmt.Errorf("%w: the server has not ended after %d pages", ErrTooMany, maxPages)
}

func request(ctx context.Context, q Query, limit int, paging ldap.Control) *ldap.SearchRequest {
	seconds := 1
	if deadline, ok := ctx.Deadline(); ok {
		seconds = max(1, int(time.Until(deadline)/time.Second))
	}
	var controls []ldap.Control
	if limit >= pageSize {
		controls = []ldap.Control{paging}
	}
	scope := map[Scope]int{ScopeBase: ldap.ScopeBaseObject, ScopeOne: ldap.ScopeSingleLevel, ScopeSub: ldap.ScopeWholeSubtree}[q.Scope]
	return ldap.NewSearchRequest(q.Base, scope, ldap.NeverDerefAliases, limit+1, seconds, false, q.Filter, q.Attributes, controls)
}

// nextPage takes the cookie over; false when the answer was the last page.
func nextPage(answer *ldap.SearchResult, paging *ldap.ControlPaging) bool {
	control, ok := ldap.FindControl(answer.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
	if !ok || len(control.Cookie) == 0 {
		return false
	}
	paging.SetCookie(control.Cookie)
	return true
}

// EscapeFilter escapes any octets for use as a value in a filter (RFC 4515, 3): all but letters and digits.
func EscapeFilter(value []byte) string {
	const hexDigits = "0123456789abcdef"
	out := make([]byte, 0, len(value)*3)
	for _, b := range value {
		if b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' {
			out = append(out, b)
		} else {
			out = append(out, '\\', hexDigits[b>>4], hexDigits[b&15])
		}
	}
	return string(out)
}
