package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/mapper/internal/mapping"
)

// take hears the answer to query i, and reports whether it has to hear the next one's.
type take func(i int, a ldapconn.Answer) bool

// round is one flight of searches. They are sent without waiting for answers but for a moment, and
// their answers are heard in the order of the queries until one was enough.
type round struct {
	queries []ldapconn.Query
	hear    take
	then    func() *round // of the next round over the same connection, once all answers are heard; nil is none
	aside   bool          // it only explains: when it fails, what was heard before stands
}

// asideTime is how long a round may take that only explains.
const asideTime = time.Second

// ask goes through the rounds over one connection. A server that fails while it is asked is passed
// over for the next one, which is heard from the first round on. One that has ended a connection
// made ahead is asked once more, over a new one. Every error is an ErrUnavailable.
func (d *Directory) ask(ctx context.Context, first *round, maxOctets int64) error {
	if err := d.converse(ctx, first, maxOctets); err != nil {
		return fmt.Errorf("%w: %w", mapping.ErrUnavailable, err)
	}
	return nil
}

func (d *Directory) converse(ctx context.Context, first *round, maxOctets int64) error {
	r := d.takePrefetch(ctx)
	ahead := r != nil
	if !ahead {
		r = d.reach(ctx)
	}
	if r.fault != nil {
		return r.fault
	}
	c := r.config
	defer clear(c.Password)
	defer d.dead.save(c.Dead)
	c.MaxBytes = maxOctets
	conn, err := r.conn, r.err
	if err == nil && conn.Ended() { // it had to wait for too long
		conn.Close()
		conn, err = ldapconn.Dial(ctx, c)
	}
	var errs []error
	for err == nil {
		err = d.askServer(ctx, conn, c, first, maxOctets)
		var referred *referralError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &referred):
			return referred.err
		case ctx.Err() != nil:
			continue
		case ahead && errors.Is(err, ldapconn.ErrEnded): // it may have had to wait for too long, and the end comes to light only now
			ahead = false
			conn, err = ldapconn.Dial(ctx, c)
			continue
		}
		ahead = false
		errs = append(errs, err)
		d.log.Warn("directory server fails", "server", conn.URI, "error", err)
		c.Dead.Mark(conn.URI)
		if c.URIs = slices.DeleteFunc(c.URIs, func(u string) bool { return u == conn.URI }); len(c.URIs) == 0 {
			return d.explain(errors.Join(errs...))
		}
		conn, err = ldapconn.Dial(ctx, c)
	}
	return d.explain(errors.Join(append(errs, err)...))
}

// explain adds what an administrator may not know to the errors of servers.
func (d *Directory) explain(err error) error {
	err = ldapconn.Unreached(err)
	if d.Conn.StartTLS && strings.Contains(err.Error(), "TLS") {
		err = fmt.Errorf("%w (ssl = off asks in the clear, tls_checkpeer = 0 does not check the server's certificate)", err)
	}
	if errors.Is(err, ldapconn.ErrReferralOnly) {
		err = fmt.Errorf("%w (referrals = true follows them)", err)
	}
	return err
}

// askServer goes through the rounds with one server and closes the connection. While there are
// others of the servers, this one may take only its share of the time.
func (d *Directory) askServer(ctx context.Context, conn *ldapconn.Conn, c ldapconn.Config, r *round, maxOctets int64) error {
	defer conn.Close()
	conn.Allow(maxOctets)
	share := ctx
	if deadline, ok := ctx.Deadline(); ok && len(c.URIs) > 1 {
		var cancel context.CancelFunc
		share, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(c.URIs)))
		defer cancel()
	}
	for r != nil {
		goOn, err := d.askRound(ctx, share, conn, c, r)
		switch {
		case err != nil && r.aside:
			d.log.Debug("directory does not explain", "server", conn.URI, "error", err)
			return nil
		case err != nil:
			return err
		case !goOn || r.then == nil:
			return nil
		}
		r = r.then()
	}
	return nil
}

// askRound reports whether all answers of a round were heard, so that the connection can be asked
// more. share ends what this server may take, ctx what those may that it points to.
func (d *Directory) askRound(ctx, share context.Context, conn *ldapconn.Conn, c ldapconn.Config, r *round) (goOn bool, err error) {
	if r.aside {
		var cancel context.CancelFunc
		share, cancel = context.WithTimeout(share, asideTime)
		defer cancel()
	}
	if d.referrals && !r.aside {
		answers, err := conn.SearchAll(share, r.queries)
		if err != nil {
			return false, fmt.Errorf("%s: %w", conn.URI, err)
		}
		return d.hearReferred(ctx, c, r, answers)
	}
	goOn = true
	var refused error
	err = conn.SearchEach(share, r.queries, func(i int, a ldapconn.Answer) bool {
		if refused = serverFault(a.Err); refused == nil {
			goOn = r.hear(i, a)
		}
		return goOn && refused == nil
	})
	if err = cmp.Or(refused, err); err != nil {
		return false, fmt.Errorf("%s: %w", conn.URI, err)
	}
	return goOn, nil
}

// serverFault returns the error of an answer that is none; that there are too many entries is one.
func serverFault(err error) error {
	if err == nil || errors.Is(err, ldapconn.ErrTooMany) {
		return nil
	}
	return err
}

// referralError is a failure of a server that another one points to. It ends the search: what that
// server would have answered is not known, and that there is only one entry is not either.
type referralError struct{ err error }

// Error implements error.
func (e *referralError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *referralError) Unwrap() error { return e.err }

// Limits of following referrals.
const (
	maxReferralHops = 3
	maxReferralAsks = 8
)

// hearReferred completes the answers by those of other servers before they are heard.
func (d *Directory) hearReferred(ctx context.Context, c ldapconn.Config, r *round, answers []ldapconn.Answer) (goOn bool, err error) {
	answers, err = d.follow(ctx, c, r.queries, answers)
	if err != nil {
		return false, &referralError{err}
	}
	for i, a := range answers {
		if err := serverFault(a.Err); err != nil {
			return false, &referralError{err}
		}
		if !r.hear(i, a) {
			return false, nil
		}
	}
	return true, nil
}

// follow asks the servers that the answers point to.
func (d *Directory) follow(ctx context.Context, c ldapconn.Config, queries []ldapconn.Query, answers []ldapconn.Answer) ([]ldapconn.Answer, error) {
	asks := 0
	for i := range answers {
		seen := map[string]bool{}
		pending := answers[i].Referrals
		if len(pending) > 0 && errors.Is(answers[i].Err, ldapconn.ErrReferralOnly) {
			answers[i].Err = nil
		}
		for hop := 0; len(pending) > 0; hop++ {
			if hop == maxReferralHops {
				return nil, fmt.Errorf("referrals lead on after %d servers", maxReferralHops)
			}
			var next []string
			for _, text := range pending {
				if seen[text] {
					continue
				}
				seen[text] = true
				if asks++; asks > maxReferralAsks {
					return nil, fmt.Errorf("referrals to more than %d servers", maxReferralAsks)
				}
				a, err := d.AskReferred(ctx, c, queries[i], text)
				if err != nil {
					return nil, fmt.Errorf("referral %s: %w", text, err)
				}
				answers[i].Entries = append(answers[i].Entries, a.Entries...)
				if a.Err != nil && !(len(a.Referrals) > 0 && errors.Is(a.Err, ldapconn.ErrReferralOnly)) {
					answers[i].Err = a.Err
				}
				next = append(next, a.Referrals...)
			}
			pending = next
		}
	}
	return answers, nil
}

// AskReferred asks another server under the same conditions. Its name came from a server, so the
// password goes there only where TLS protects it.
func (d *Directory) AskReferred(ctx context.Context, c ldapconn.Config, q ldapconn.Query, text string) (ldapconn.Answer, error) {
	r, err := ldapconn.ParseReferral(text)
	if err != nil {
		return ldapconn.Answer{}, err
	}
	t, err := ldapconn.ParseURI(r.URI)
	if err != nil {
		return ldapconn.Answer{}, err
	}
	if c.Bind == ldapconn.Simple && !t.TLS && !c.StartTLS && !t.IsThisMachine() {
		return ldapconn.Answer{}, errors.New("without TLS the password does not go to a server that another one names")
	}
	c.URIs, c.Dead = []string{r.URI}, nil
	conn, err := ldapconn.Dial(ctx, c)
	if err != nil {
		return ldapconn.Answer{}, err
	}
	defer conn.Close()
	answers, err := conn.SearchAll(ctx, []ldapconn.Query{r.Apply(q)})
	if err != nil {
		return ldapconn.Answer{}, err
	}
	return answers[0], nil
}
