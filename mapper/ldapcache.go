package mapper

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
)

// answerCache keeps what a directory said yes to, for logins while no server can be reached. It is asked
// only then: a server that refuses was reached. A directory that says no takes the answer back; the certificate itself is checked at every
// login, whatever stands here.
type answerCache struct {
	store *store
	block string // the block's settings: another configuration has other answers
	life  time.Duration
	now   func() time.Time
}

// cachedAnswer is one record.
type cachedAnswer struct {
	User   string    `json:"user"`
	Value  string    `json:"value"`
	Stored time.Time `json:"stored"`
	Until  time.Time `json:"until"`
}

// answerVersion changes when less counts as a yes than before, so that earlier answers do not stand in.
const answerVersion = "2"

// newAnswerCache returns nil where cache_hours is 0.
func newAnswerCache(name string, hours int, o Options, settings ...any) *answerCache {
	if hours <= 0 {
		return nil
	}
	return &answerCache{store: newStore(o), block: fmt.Sprintf("%s%q%q", answerVersion, name, fmt.Sprint(settings...)), life: time.Duration(hours) * time.Hour, now: o.Now}
}

// recordName makes a file name of any text.
func recordName(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

func (c *answerCache) name(cert *certinfo.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return "ldap-answer-" + recordName(c.block+hex.EncodeToString(sum[:])) + ".json"
}

// keep remembers a yes.
func (c *answerCache) keep(cert *certinfo.Certificate, a answer) {
	if c == nil {
		return
	}
	now := c.now()
	until := now.Add(c.life)
	if until.After(cert.NotAfter) {
		until = cert.NotAfter
	}
	c.store.write(c.name(cert), cachedAnswer{a.user, a.value, now, until})
}

// forget takes the yes for a person back; nil means anybody.
func (c *answerCache) forget(cert *certinfo.Certificate, user *person) {
	if c == nil {
		return
	}
	var known cachedAnswer
	if c.store.read(c.name(cert), &known) && (user == nil || user.is(known.User)) {
		c.store.remove(c.name(cert))
	}
}

// recall returns the yes that is still good. A record from the future, or with a longer life than the
// block gives now, is not believed.
func (c *answerCache) recall(cert *certinfo.Certificate) (answer, bool) {
	if c == nil {
		return answer{}, false
	}
	var known cachedAnswer
	now := c.now()
	if !c.store.read(c.name(cert), &known) || known.User == "" || known.Stored.After(now) || !known.Until.After(now) ||
		known.Stored.Add(c.life).Before(now) || !cert.NotAfter.After(now) {
		return answer{}, false
	}
	value := known.Value + ", from the cache of " + known.Stored.UTC().Format(time.RFC3339)
	return answer{user: known.User, value: value, origin: OriginDirectory}, true
}

// shorten leaves half of the time for the rest of the login, where an answer may come from here.
func (c *answerCache) shorten(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if c == nil || !ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// unreached tells that no server could be reached in its time, and none was that refuses.
func unreached(err error) bool {
	return !ldapconn.IsFault(err) && (errors.Is(err, ldapconn.ErrNoServer) || errors.Is(err, context.DeadlineExceeded))
}

// settle completes a directory's answer: a yes is kept, a no takes an earlier yes back, and when no
// server could be asked an earlier yes that is still good stands in.
func (c *answerCache) settle(cert *certinfo.Certificate, user *person, a *answer, err error, log *slog.Logger) (*answer, error) {
	switch {
	case err == nil && a != nil:
		c.keep(cert, *a)
		return a, nil
	case !errors.Is(err, ErrUnavailable):
		c.forget(cert, user)
		return nil, err
	case !unreached(err):
		return nil, err
	}
	known, ok := c.recall(cert)
	if !ok || user != nil && !user.is(known.user) {
		return nil, err
	}
	log.Warn("no directory server can be reached: an earlier answer stands in", "user", known.user, "error", err)
	return &known, nil
}
