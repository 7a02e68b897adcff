package ocsp

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/verify/internal/refusal"
	"pam_pkcs11/verify/internal/rules"
)

// NonceMode says what is done about a nonce, by which an answer is known to be fresh (RFC 8954).
type NonceMode string

// The values of ocsp_nonce.
const (
	NonceOptional NonceMode = "optional" // sent; an answer without is accepted, one with another is not. The default
	NonceRequired NonceMode = "required" // sent; only an answer with it is accepted, and none of the store says "good"
	NonceOff      NonceMode = "off"      // not sent: answers that were made ahead will do, and caches on the way
)

// Options say how responders are asked.
type Options struct {
	URLs           []string      // asked before those of the certificate; may be of this machine
	ResponderCerts []string      // files and directories of certificates whose answers are accepted, whatever the CA
	Nonce          NonceMode     // "": NonceOptional
	MaxAge         time.Duration // of an answer since its thisUpdate; 0: until its nextUpdate, an hour when it has none

	// DelegateWithoutStatus accepts a responder that the CA named and whose certificate has neither
	// nocheck nor an address where its own status could be asked, when nothing is known about it.
	DelegateWithoutStatus bool
}

const (
	// maxResponders bounds the URLs of one certificate that are asked.
	maxResponders = 5
	// hedge is how long a responder may give no answer before the next one is asked too.
	hedge = time.Second
)

// Checker asks responders about certificates. It may be used by several goroutines at once.
type Checker struct {
	Options Options
	Rules   rules.Rules
	Trusted []*certinfo.Certificate // of OCSPOptions.ResponderCerts
	Now     func() time.Time
	Logger  *slog.Logger
	Store   *Store
	// Client makes the client for one question; allowLocal lets an address be of this machine.
	Client func(allowLocal bool, maxBytes int64) *fetch.Client
	// Local lets URLs of certificates lead to this machine: tests have their responders there.
	Local bool
}

// Outcome is what could be found out about one certificate.
type Outcome struct {
	Verdict *Verdict // nil: no answer that is accepted
	From    string   // URL, or "the store"
	Notes   []string // why other answers were not used
	Spoken  bool     // one of the notes rests on a signature, so that this is no silence
	Restore string   // the setting that would have let an answer pass, "" for none
}

// note records why an answer was not used.
func (o *Outcome) note(from string, why error) {
	o.Spoken = o.Spoken || isSpoken(why)
	if errors.Is(why, errNoDelegateStatus) {
		o.Restore = delegateAccept
	}
	o.Notes = append(o.Notes, fmt.Sprintf("%s: %s", refusal.Clip(from), refusal.Clip(withoutAddress(why).Error())))
}

// withoutAddress removes what net/http puts before an error: the address is named already.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// DelegateStatus finds out whether a responder's certificate is revoked. nil: it is good.
type DelegateStatus func(ctx context.Context, delegate Target) *refusal.Error

// Ask finds the status of a certificate: from the store while its answer lasts, else from the
// responders. A "revoked" of the store stays until a newer answer takes it back.
func (c *Checker) Ask(ctx context.Context, t *Target, delegates DelegateStatus) Outcome {
	var out Outcome

	raw, err := c.Store.load(t)
	if err != nil {
		c.Logger.Warn("kept OCSP answer not used", "problem", err)
	}

	var kept *Verdict
	if raw != nil {
		if kept, err = c.checkKept(ctx, t, raw, delegates); err != nil {
			kept = nil
			out.Notes = append(out.Notes, "the store: "+refusal.Clip(err.Error()))
		}
	}

	// A kept "revoked" whose time is over still counts, but the responder may have taken it back.
	if kept != nil && (!kept.Revoked() || c.checkDates(kept.answer, &kept.single, c.Now()) == nil) {
		out.Verdict = kept
		out.From = "the store"
		return out
	}

	c.responders(ctx, t, delegates, &out)
	switch {
	case kept != nil && !out.takesBack(kept):
		out.Verdict = kept
		out.From = "the store"
	case out.Verdict != nil:
		if err := c.Store.keep(t, raw, out.Verdict); err != nil {
			c.Logger.Warn("OCSP answer not kept", "problem", err)
		}
	}

	return out
}

// takesBack reports whether a fresh answer ends a kept "revoked": by saying so anew, or by being
// newer.
func (o *Outcome) takesBack(kept *Verdict) bool {
	return o.Verdict != nil && (o.Verdict.Revoked() || o.Verdict.single.thisUpdate.After(kept.single.thisUpdate))
}

// checkKept checks an answer of the store. The error is why it is not used.
func (c *Checker) checkKept(ctx context.Context, t *Target, raw []byte, delegates DelegateStatus) (*Verdict, error) {
	a, err := parseAnswer(raw)
	if err != nil {
		return nil, err
	}

	// With which hash it was asked for is not known any more.
	var ids []certID
	for hash := range hashOIDs {
		id, err := newCertID(hash, t.Cert, t.Issuer)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}

	verdict, err := c.accept(t, a, expected{ids: ids, cached: true}, c.Now())
	if err != nil {
		return nil, err
	}
	// A kept nonce proves nothing: the answer may be as old as its dates allow.
	if !verdict.Revoked() && c.Options.Nonce == NonceRequired {
		return nil, errors.New("is not fresh (ocsp_nonce = required)")
	}

	return verdict, c.checkDelegate(ctx, t, verdict, delegates)
}

// checkDelegate finds out whether the signer of an answer is itself good, where that counts. Only a
// signer that is known to be revoked spoils a "revoked".
func (c *Checker) checkDelegate(ctx context.Context, t *Target, verdict *Verdict, delegates DelegateStatus) error {
	if verdict.delegate == nil {
		return nil
	}

	err := delegates(ctx, Target{Cert: verdict.delegate, Issuer: t.Issuer, Key: t.Key})
	if err == nil || verdict.Revoked() && err.Reason != refusal.ReasonRevoked {
		return nil
	}

	// The CA left no way to ask about its delegate: a setting decides what follows.
	if err.Reason == refusal.ReasonRevocationUnknown && !err.Spoken && withoutStatus(verdict.delegate) {
		return c.delegateUnknown(verdict.delegate, err)
	}

	why := fmt.Errorf("is signed by a responder whose own status is not good: %w", err)
	if err.Spoken || err.Reason == refusal.ReasonRevoked {
		return &spokenError{why}
	}
	return why
}

// responder is the address of a responder.
type responder struct {
	url        string
	configured bool // by the administrator: may lead to this machine
}

// addresses lists the responders to ask: those of the configuration, then those of the certificate.
func (c *Checker) addresses(cert *certinfo.Certificate) []responder {
	var all []responder
	for _, u := range c.Options.URLs {
		all = append(all, responder{u, true})
	}

	for i, u := range cert.OCSPServers {
		if i == maxResponders {
			break
		}
		all = append(all, responder{u, c.Local})
	}
	return all
}

// responders asks one after the other. One that gives no answer delays the next by hedge at most;
// the first answer that is accepted counts.
func (c *Checker) responders(ctx context.Context, t *Target, delegates DelegateStatus, out *Outcome) {
	all := c.addresses(t.Cert)
	if len(all) == 0 {
		out.Notes = append(out.Notes, "the certificate names no OCSP responder, and ocsp_url is not set")
		return
	}

	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait() // so that no goroutine of this question outlives it
	defer cancel()

	type result struct {
		who     int
		verdict *Verdict
		err     error
	}
	// Room for all results: a goroutine whose answer comes too late must not hang.
	results := make(chan result, len(all))

	timer := time.NewTimer(0)
	defer timer.Stop()
	started := 0
	silent := map[int]bool{}
	start := func() {
		if started == len(all) {
			return
		}
		who := started
		started++
		silent[who] = true
		group.Go(func() {
			verdict, err := c.responder(ctx, t, all[who], delegates)
			results <- result{who, verdict, err}
		})
		timer.Reset(hedge)
	}

	for len(silent) > 0 || started < len(all) {
		select {
		case <-timer.C:
			start()
		case r := <-results:
			delete(silent, r.who)
			if r.err == nil {
				out.Verdict = r.verdict
				out.From = all[r.who].url
				return
			}
			out.note(all[r.who].url, r.err)
			// One that failed need not be waited for: the next one is asked at once.
			start()
		case <-ctx.Done():
			for who := range all {
				if who >= started || silent[who] {
					out.note(all[who].url, errNoTime)
				}
			}
			return
		}
	}
}

// errNoTime is noted for a responder that did not answer in what verify_timeout leaves for it.
var errNoTime = errors.New("no answer in time")

// attempt is one way to ask the question.
type attempt struct {
	post, nonce bool
	hash        crypto.Hash
}

// attempts are the ways in which one responder is asked in turn, as long as it answers and the
// answer is not to the point: some know CertIDs with one hash only, some take one method only, and
// some nothing with a nonce. SHA-1 is the hash that every responder knows; its weakness does not
// matter here, since an answer is only about what its signer issued.
func (c *Checker) attempts() []attempt {
	switch c.Options.Nonce {
	case NonceOff:
		return []attempt{{false, false, crypto.SHA1}, {true, false, crypto.SHA1}, {true, false, crypto.SHA256}}
	case NonceRequired:
		return []attempt{{true, true, crypto.SHA1}, {true, true, crypto.SHA256}, {false, true, crypto.SHA1}}
	}
	return []attempt{{true, true, crypto.SHA1}, {true, true, crypto.SHA256}, {false, false, crypto.SHA1}}
}

// responder asks one responder.
func (c *Checker) responder(ctx context.Context, t *Target, r responder, delegates DelegateStatus) (*Verdict, error) {
	var first error
	for _, attempt := range c.attempts() {
		verdict, err := c.attempt(ctx, t, r, attempt)
		if err == nil {
			err = c.checkDelegate(ctx, t, verdict, delegates)
			return verdict, err
		}
		// One that ends the asking is reported, else the first, and a spoken one before both.
		if first == nil || !worthAnother(err) && !isSpoken(first) {
			first = err
		}
		if !worthAnother(err) {
			break
		}
	}
	return nil, first
}

// worthAnother reports whether the responder was there but could do nothing with the question.
func worthAnother(err error) bool {
	var status statusError
	if errors.As(err, &status) {
		return status == statusMalformedRequest || status == statusUnauthorized
	}
	var http *fetch.StatusError
	return errors.As(err, &http) || errors.Is(err, errStatusUnknown) || errors.Is(err, errOtherCertificate)
}

// attempt asks the question in one way and checks the answer, but for the status of its signer.
func (c *Checker) attempt(ctx context.Context, t *Target, r responder, how attempt) (*Verdict, error) {
	id, err := newCertID(how.hash, t.Cert, t.Issuer)
	if err != nil {
		return nil, err
	}

	request := request{id: id}
	if how.nonce {
		request.nonce = make([]byte, nonceSize)
		if _, err := rand.Read(request.nonce); err != nil {
			return nil, err
		}
	}

	der, err := request.marshal()
	if err != nil {
		return nil, err
	}
	raw, err := c.send(ctx, r, der, how.post)
	if err != nil {
		return nil, err
	}

	answer, err := parseAnswer(raw)
	if err != nil {
		return nil, err
	}
	return c.accept(t, answer, expected{ids: []certID{id}, nonce: request.nonce}, c.Now())
}

// send makes one HTTP exchange (RFC 6960, appendix A).
func (c *Checker) send(ctx context.Context, r responder, der []byte, post bool) ([]byte, error) {
	client := c.Client(r.configured, maxAnswer)

	if !strings.HasPrefix(r.url, "http:") && !strings.HasPrefix(r.url, "https:") {
		return nil, fmt.Errorf("%w: expected http or https", fetch.ErrAddress)
	}
	var answer *fetch.Answer
	var err error

	if post {
		answer, err = client.Post(ctx, r.url, "application/ocsp-request", der)
	} else {
		answer, err = client.Get(ctx, getURL(r.url, der), fetch.Validators{})
	}

	if err != nil {
		return nil, err
	}
	// Nothing was named that could be unmodified, so that is no answer.
	if answer.NotModified {
		return nil, &fetch.StatusError{URL: r.url, Status: 304}
	}
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// getURL is the address of a GET request (RFC 6960, A.1).
func getURL(base string, der []byte) string {
	return strings.TrimSuffix(base, "/") + "/" + url.PathEscape(base64.StdEncoding.EncodeToString(der))
}
