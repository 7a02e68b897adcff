package ldapconn

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// Scope is the part of the tree that is searched (RFC 4511, 4.5.1.2).
type Scope int

// The scopes.
const (
	ScopeBase Scope = iota
	ScopeOne
	ScopeSub
)

// Query is one search.
type Query struct {
	Base       string
	Scope      Scope
	Filter     string // RFC 4515; the caller escapes values in it
	Attributes []string
	MaxEntries int // more are ErrTooMany; 0 is 1000

	// Keep selects the entries that are returned; the others are counted and dropped, so that many
	// entries need little memory. nil keeps all.
	Keep func(Entry) bool
}

// Entry is one entry that was found. Attribute names are as the server writes them; Get compares
// without case and without options.
type Entry struct {
	DN    string
	entry *ldap.Entry
}

// Get returns all values of an attribute, with and without the option ";binary", also where a
// server sends them in several parts.
func (e Entry) Get(name string) [][]byte {
	var values [][]byte
	for _, a := range e.entry.Attributes {
		plain := a.Name
		// The option is about the transfer, and not part of the attribute (RFC 4522).
		if n := len(plain) - len(";binary"); n > 0 && strings.EqualFold(plain[n:], ";binary") {
			plain = plain[:n]
		}
		if strings.EqualFold(plain, name) || strings.EqualFold(a.Name, name) {
			values = append(values, a.ByteValues...)
		}
	}
	return values
}

// ErrTooMany is returned when a search finds more entries than the caller can use.
var ErrTooMany = errors.New("more entries than expected")

// Limits of a search.
const (
	defaultMaxEntries = 1000
	pageSize          = 500
	maxPages          = 64
	maxReferrals      = 16

	// pageOctets bounds one page with Query.Keep. A page is in memory as a whole, and takes many
	// times its size there.
	pageOctets = 8 << 20
)

// Answer is the result of one search.
type Answer struct {
	Entries []Entry

	// Referrals are URLs of other servers that the server refers to. The caller may follow them.
	Referrals []string

	// Err is ErrTooMany or ErrSizeLimit, with some of the entries, or ErrReferralOnly, with
	// Referrals.
	Err error
}

// Search runs one query, page by page where the server pages, within the connection's search
// timeout and ctx. References to other servers beside the entries are not followed: that would hand
// the bind password to a server that nobody configured. A referral in place of an answer is
// ErrReferralOnly.
func (c *Conn) Search(ctx context.Context, q Query) ([]Entry, error) {
	answers, err := c.SearchAll(ctx, []Query{q})
	if err != nil {
		return nil, err
	}
	return answers[0].Entries, answers[0].Err
}

// SearchAll sends all queries without waiting for their answers, but for a moment after the first,
// and returns the answers in the order of the queries. Together they cost one round trip, or two
// where the server is near, and more only where an answer has a second page. A query that fails
// otherwise than by Answer.Err fails all.
func (c *Conn) SearchAll(ctx context.Context, queries []Query) ([]Answer, error) {
	answers := make([]Answer, 0, len(queries))
	err := c.SearchEach(ctx, queries, func(_ int, a Answer) bool {
		answers = append(answers, a)
		return true
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// SearchEach is SearchAll, but hands over each answer as soon as it and those before it are there,
// until take returns false; what comes after that is ignored, also where it is an error. After an
// error or a false the connection can only be closed.
func (c *Conn) SearchEach(ctx context.Context, queries []Query, take func(i int, a Answer) bool) error {
	ctx, cancel := context.WithTimeout(ctx, c.search)
	defer cancel()

	// Closing the transport is the only way to end a search of the library.
	stop := context.AfterFunc(ctx, func() { c.wire.Close() })
	defer stop()

	searches := make([]pendingSearch, len(queries))
	for i := range searches {
		searches[i].done = make(chan struct{})
	}
	rest := make(chan struct{}) // closed when the first answer was not enough
	go c.send(ctx, queries, searches, rest)

	for i := range searches {
		a := &searches[i]
		<-a.done
		if a.err != nil {
			// The library says only that the connection is closed: what closed it is known here.
			why := ctx.Err()
			switch {
			case c.wire.tooMuch():
				why = ErrTooMuch
			case why == nil && c.Ended():
				why = ErrEnded
			}
			return errors.Join(fmt.Errorf("search: %w", a.err), why)
		}

		if !take(i, a.answer) {
			return nil
		}

		if i == 0 {
			close(rest)
		}
	}
	return nil
}

// headStart is the time for which the first query is alone. A server nearby has answered by then,
// and mostly that answer is enough; with one far away the wait is short beside the round trip.
const headStart = 500 * time.Microsecond

// pendingSearch is a query that was sent, or will be.
type pendingSearch struct {
	done   chan struct{} // closed when the answer or the error is there
	answer Answer
	err    error
}

// send starts the queries. The server works on one while the next is encoded, which takes a while
// where a filter holds a certificate.
func (c *Conn) send(ctx context.Context, queries []Query, searches []pendingSearch, rest <-chan struct{}) {
	c.wire.forgetWritten()
	for i, q := range queries {
		// The first answer is often enough: the other queries wait for it, but not for long.
		if i == 1 {
			select {
			case <-rest:
			case <-time.After(headStart):
			case <-ctx.Done():
			}
		}

		a := &searches[i]
		if a.err = ctx.Err(); a.err != nil {
			close(a.done)
			continue
		}

		go func() {
			defer close(a.done)
			defer recoverInto(&a.err)
			a.answer, a.err = c.pages(ctx, q)
		}()

		// Queries go out in their order: the next one waits until this one is written.
		select {
		case <-c.wire.written:
		case <-a.done:
		case <-ctx.Done():
		}
	}
}

// recoverInto turns a panic over what a server sent into an error.
func recoverInto(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("internal fault: %v\n%s", v, debug.Stack())
	}
}

// pages runs one query to its last page.
func (c *Conn) pages(ctx context.Context, q Query) (Answer, error) {
	limit := q.MaxEntries
	if limit <= 0 {
		limit = defaultMaxEntries
	}

	var found Answer
	paging := ldap.NewControlPaging(pageSize)
	seen := 0

	// A server could send pages without end.
	for range maxPages {
		// A page is in memory as a whole: without a bound one could fill it.
		if q.Keep != nil {
			c.wire.beginPage(pageOctets)
		}

		answer, err := c.conn.Search(request(ctx, q, limit, paging))
		switch {
		case ldap.IsErrorWithCode(err, ldap.LDAPResultReferral):
			found.addReferrals(referralsOf(err))
			found.Err = referralFault(found.Referrals)
			return found, nil
		// At its size limit the server sends the entries found so far with the error.
		case err != nil && (answer == nil || !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded)):
			return Answer{}, searchFault(err)
		}

		for _, e := range answer.Entries {
			if entry := (Entry{DN: e.DN, entry: e}); q.Keep == nil || q.Keep(entry) {
				found.Entries = append(found.Entries, entry)
			}
		}

		found.addReferrals(answer.Referrals)
		seen += len(answer.Entries)
		switch {
		case seen > limit:
			found.Err = ErrTooMany
			return found, nil
		case err != nil:
			found.Err = fmt.Errorf("%w, after %d entries", ErrSizeLimit, seen)
			return found, nil
		}

		if !nextPage(answer, paging) {
			return found, nil
		}
	}

	found.Err = fmt.Errorf("%w: the server has not ended after %d pages", ErrTooMany, maxPages)
	return found, nil
}

// addReferrals keeps the first of the referrals.
func (a *Answer) addReferrals(urls []string) {
	for _, u := range urls {
		if len(a.Referrals) < maxReferrals {
			a.Referrals = append(a.Referrals, u)
		}
	}
}

// referralsOf reads the URLs of a result that is a referral (RFC 4511, 4.1.9 and 4.1.10).
func referralsOf(err error) []string {
	var e *ldap.Error
	if !errors.As(err, &e) || e.Packet == nil || len(e.Packet.Children) < 2 {
		return nil
	}

	var urls []string
	for _, part := range e.Packet.Children[1].Children {
		// The referral is [3], of the context (RFC 4511, 4.1.9).
		if part.ClassType != 0x80 || part.Tag != 3 {
			continue
		}
		for _, u := range part.Children {
			urls = append(urls, u.Data.String())
		}
	}
	return urls
}

// request makes the message of one page.
func request(ctx context.Context, q Query, limit int, paging ldap.Control) *ldap.SearchRequest {
	// The server gets the time that is left, in whole seconds; 0 would be no limit (RFC 4511,
	// 4.5.1.5).
	seconds := 1
	if deadline, ok := ctx.Deadline(); ok {
		seconds = max(1, int(time.Until(deadline)/time.Second))
	}

	var controls []ldap.Control
	// A search for few entries needs no pages, and servers may limit them.
	if limit >= pageSize {
		controls = []ldap.Control{paging}
	}

	scopes := map[Scope]int{
		ScopeBase: ldap.ScopeBaseObject,
		ScopeOne:  ldap.ScopeSingleLevel,
		ScopeSub:  ldap.ScopeWholeSubtree,
	}

	// One entry more than the limit shows that there are too many.
	return ldap.NewSearchRequest(q.Base, scopes[q.Scope], ldap.NeverDerefAliases,
		limit+1, seconds, false, q.Filter, q.Attributes, controls)
}

// nextPage sets the cookie of the next page; false when the answer was the last one.
func nextPage(answer *ldap.SearchResult, paging *ldap.ControlPaging) bool {
	control, ok := ldap.FindControl(answer.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
	if !ok || len(control.Cookie) == 0 {
		return false
	}
	paging.SetCookie(control.Cookie)
	return true
}
