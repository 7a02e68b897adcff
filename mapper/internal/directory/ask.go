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

// take receives the answers in the order of the queries; it returns false when no more are needed.
type take func(i int, a ldapconn.Answer) bool

// round is a set of searches that are sent without waiting for each other's answers. The answers
// are received in the order of the queries until one was enough.
type round struct {
	queries []ldapconn.Query
	receive take

	// then returns the next round over the same connection, once all answers are received; it, and
	// what it returns, may be nil.
	then func() *round

	// optional is set where the round only explains: when it fails, what was found before stands.
	optional bool
}

// optionalTime is the longest time of a round that only explains.
const optionalTime = time.Second

// ask goes through the rounds over one connection. Where a server fails, the next one is asked,
// from the first round on. A server that has ended a connection made ahead is asked once more, over
// a new one. Every error is an ErrUnavailable.
func (d *Directory) ask(ctx context.Context, first *round, maxOctets int64) error {
	if err := d.askServers(ctx, first, maxOctets); err != nil {
		return fmt.Errorf("%w: %w", mapping.ErrUnavailable, err)
	}
	return nil
}

// askServers is ask with the errors as they are.
func (d *Directory) askServers(ctx context.Context, first *round, maxOctets int64) error {
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

	// A connection made ahead may have been idle for longer than the server allows.
	conn := r.conn
	err := r.err
	if err == nil && conn.Ended() {
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
		case ahead && errors.Is(err, ldapconn.ErrEnded):
			// Ended did not see it yet: the server closed the connection, and did not fail.
			ahead = false
			conn, err = ldapconn.Dial(ctx, c)
			continue
		}

		// Another server may know more: the error is kept for the case that none answers.
		ahead = false
		errs = append(errs, err)
		d.log.Warn("directory server fails", "server", conn.URI, "error", err)
		c.Dead.Mark(conn.URI)

		if c.URIs = slices.DeleteFunc(c.URIs, func(u string) bool { return u == conn.URI }); len(c.URIs) == 0 {
			return d.explain(errors.Join(errs...))
		}

		// Dial chooses among the servers that are left.
		conn, err = ldapconn.Dial(ctx, c)
	}
	return d.explain(errors.Join(append(errs, err)...))
}

// explain adds to the errors of servers which key of the configuration may help.
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

// askServer goes through the rounds with one server and closes the connection. While other servers
// are left, this one may take only its share of the time.
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
		case err != nil && r.optional:
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

// askRound sends the queries of a round and hands the answers over. goOn is false where one of them
// was enough. share bounds the time of this server, ctx that of the servers that it refers to.
func (d *Directory) askRound(
	ctx, share context.Context, conn *ldapconn.Conn, c ldapconn.Config, r *round,
) (goOn bool, err error) {
	if r.optional {
		var cancel context.CancelFunc
		share, cancel = context.WithTimeout(share, optionalTime)
		defer cancel()
	}

	// Referrals change answers that have arrived: all are collected before the first is handed
	// over.
	if d.referrals && !r.optional {
		answers, err := conn.SearchAll(share, r.queries)
		if err != nil {
			return false, fmt.Errorf("%s: %w", conn.URI, err)
		}
		return d.receiveReferred(ctx, c, r, answers)
	}

	goOn = true
	var refused error
	err = conn.SearchEach(share, r.queries, func(i int, a ldapconn.Answer) bool {
		if refused = serverFault(a.Err); refused == nil {
			goOn = r.receive(i, a)
		}
		return goOn && refused == nil
	})

	if err = cmp.Or(refused, err); err != nil {
		return false, fmt.Errorf("%s: %w", conn.URI, err)
	}
	return goOn, nil
}

// serverFault returns the error of an answer that means the server failed. Too many entries are an
// answer.
func serverFault(err error) error {
	if err == nil || errors.Is(err, ldapconn.ErrTooMany) {
		return nil
	}
	return err
}

// referralError is a failure of a server that another one refers to. It ends the search: the other
// server's entries are unknown, so nobody knows whether an entry is the only one.
type referralError struct{ err error }

// Error implements error.
func (e *referralError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *referralError) Unwrap() error { return e.err }

// Limits of following referrals: they end where servers refer to each other.
const (
	maxReferralHops = 3
	maxReferralAsks = 8
)

// receiveReferred completes the answers by those of other servers before it hands them over.
func (d *Directory) receiveReferred(
	ctx context.Context, c ldapconn.Config, r *round, answers []ldapconn.Answer,
) (goOn bool, err error) {
	answers, err = d.follow(ctx, c, r.queries, answers)
	if err != nil {
		return false, &referralError{err}
	}

	for i, a := range answers {
		if err := serverFault(a.Err); err != nil {
			return false, &referralError{err}
		}
		if !r.receive(i, a) {
			return false, nil
		}
	}
	return true, nil
}

// follow asks the servers that the answers refer to, and adds their entries.
func (d *Directory) follow(
	ctx context.Context, c ldapconn.Config, queries []ldapconn.Query, answers []ldapconn.Answer,
) ([]ldapconn.Answer, error) {
	asks := 0
	for i := range answers {
		seen := map[string]bool{}
		pending := answers[i].Referrals
		if len(pending) > 0 && errors.Is(answers[i].Err, ldapconn.ErrReferralOnly) {
			answers[i].Err = nil
		}

		// By breadth: each hop is the servers that the hop before it referred to.
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

				// An answer that is nothing but a referral is no error: what it refers to is asked
				// next.
				answers[i].Entries = append(answers[i].Entries, a.Entries...)
				refersOn := len(a.Referrals) > 0 && errors.Is(a.Err, ldapconn.ErrReferralOnly)
				if a.Err != nil && !refersOn {
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
func (d *Directory) AskReferred(
	ctx context.Context, c ldapconn.Config, q ldapconn.Query, text string,
) (ldapconn.Answer, error) {
	r, err := ldapconn.ParseReferral(text)
	if err != nil {
		return ldapconn.Answer{}, err
	}
	t, err := ldapconn.ParseURI(r.URI)
	if err != nil {
		return ldapconn.Answer{}, err
	}

	sendsPassword := c.Bind == ldapconn.Simple && !t.TLS && !c.StartTLS
	if sendsPassword && !t.IsThisMachine() {
		return ldapconn.Answer{}, errors.New("without TLS the password does not go to a server that another one names")
	}

	// Without a memory of dead servers: it is about the order of the block's own.
	c.URIs = []string{r.URI}
	c.Dead = nil
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
