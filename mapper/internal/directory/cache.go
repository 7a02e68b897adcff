package directory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/mapping"
)

// Cache keeps the yes of a directory for logins while no server can be reached. It is asked only
// then: a server that refuses was reached. A directory that says no removes the answer; the
// certificate itself is checked at every login, whatever the cache has.
type Cache struct {
	store *Store
	block string // the block's settings: another configuration has other answers
	life  time.Duration
	now   func() time.Time
}

// cachedAnswer is one record of the cache.
type cachedAnswer struct {
	User   string    `json:"user"`
	Value  string    `json:"value"`
	Stored time.Time `json:"stored"`
	Until  time.Time `json:"until"`
}

// answerVersion is part of each record's name. It changes when a yes of an earlier version would be
// a no now, so that records of before are not found.
const answerVersion = "2"

// NewCache returns nil where cache_hours is 0.
func NewCache(name string, hours int, o mapping.Options, settings ...any) *Cache {
	if hours <= 0 {
		return nil
	}
	return &Cache{
		store: NewStore(o),
		block: fmt.Sprintf("%s%q%q", answerVersion, name, fmt.Sprint(settings...)),
		life:  time.Duration(hours) * time.Hour,
		now:   o.Now,
	}
}

// RecordName makes a file name of any text.
func RecordName(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

func (c *Cache) name(cert *certinfo.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "ldap-answer-" + RecordName(c.block+hex.EncodeToString(sum[:])) + ".json"
}

// keep remembers a yes.
func (c *Cache) keep(cert *certinfo.Certificate, a mapping.Answer) {
	if c == nil {
		return
	}
	now := c.now()
	until := now.Add(c.life)
	// The certificate is refused from then on anyway; a record need not outlive it.
	if until.After(cert.NotAfter) {
		until = cert.NotAfter
	}
	c.store.Write(c.name(cert), cachedAnswer{a.User, a.Value, now, until})
}

// forget removes the yes for a person; user is nil for anybody.
func (c *Cache) forget(cert *certinfo.Certificate, user *mapping.Person) {
	if c == nil {
		return
	}
	var known cachedAnswer
	if c.store.Read(c.name(cert), &known) && (user == nil || user.Is(known.User)) {
		c.store.Remove(c.name(cert))
	}
}

// recall returns the yes that is still good. A record from the future, or with a longer life than
// the block gives now, does not count.
func (c *Cache) recall(cert *certinfo.Certificate) (mapping.Answer, bool) {
	if c == nil {
		return mapping.Answer{}, false
	}

	var known cachedAnswer
	now := c.now()
	if !c.store.Read(c.name(cert), &known) || known.User == "" {
		return mapping.Answer{}, false
	}

	// The clock may have been set back, and cache_hours lowered, since the record was written.
	fromFuture := known.Stored.After(now)
	ended := !known.Until.After(now) || known.Stored.Add(c.life).Before(now)
	if fromFuture || ended || !cert.NotAfter.After(now) {
		return mapping.Answer{}, false
	}

	value := known.Value + ", from the cache of " + known.Stored.UTC().Format(time.RFC3339)
	return mapping.Answer{User: known.User, Value: value, Origin: mapping.OriginDirectory}, true
}

// Shorten leaves half of the time for the rest of the login, where an answer may come from the
// cache.
func (c *Cache) Shorten(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if c == nil || !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// unreached reports whether no server could be reached in its time, and none refused.
func unreached(err error) bool {
	return !ldapconn.IsFault(err) && (errors.Is(err, ldapconn.ErrNoServer) || errors.Is(err, context.DeadlineExceeded))
}

// Settle completes a directory's answer: a yes is kept, a no takes an earlier yes back, and when no
// server could be asked an earlier yes that is still good is used.
func (c *Cache) Settle(
	cert *certinfo.Certificate, user *mapping.Person, a *mapping.Answer, err error, log *slog.Logger,
) (*mapping.Answer, error) {
	switch {
	case err == nil && a != nil:
		c.keep(cert, *a)
		return a, nil
	case !errors.Is(err, mapping.ErrUnavailable):
		c.forget(cert, user)
		return nil, err
	case !unreached(err):
		return nil, err
	}

	// Match must name its person, and Find takes whom the record names.
	known, ok := c.recall(cert)
	if !ok || user != nil && !user.Is(known.User) {
		return nil, err
	}
	log.Warn("no directory server can be reached: an earlier answer stands in", "user", known.User, "error", err)
	return &known, nil
}
