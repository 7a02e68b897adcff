package mapper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pam_pkcs11/internal/ldapconn"
)

// take hears the answer to query i, and tells whether it has to hear the next one's.
type take func(i int, a ldapconn.Answer) bool

// ask sends the queries over one connection, without waiting for answers but for a moment, and hands those over in their
// order, until take has heard enough. A server that fails while it is asked is passed over for the next one, which is
// heard from the first query on. One that has ended a connection made ahead is asked once more, over a new one.
func (d *directory) ask(ctx context.Context, queries []ldapconn.Query, maxOctets int64, hear take) error {
	r := d.takeAhead(ctx)
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
		var answers []ldapconn.Answer
		answers, err = d.askServer(ctx, conn, len(c.URIs), queries, maxOctets, hear)
		switch {
		case err == nil && d.referrals:
			return d.hearReferred(ctx, c, queries, answers, hear)
		case err == nil:
			return nil
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
func (d *directory) explain(err error) error {
	if !errors.Is(err, ldapconn.ErrNoServer) {
		err = fmt.Errorf("%w: %w", ldapconn.ErrNoServer, err)
	}
	if d.conn.StartTLS && strings.Contains(err.Error(), "TLS") {
		err = fmt.Errorf("%w (ssl = off asks in the clear, tls_checkpeer = 0 does not check the server's certificate)", err)
	}
	return err
}

// askServer asks one server and closes the connection. While there are others of the servers, this one may take only
// its share of the time. Where referrals are followed, the answers are returned and not yet heard.
func (d *directory) askServer(ctx context.Context, conn *ldapconn.Conn, servers int, queries []ldapconn.Query, maxOctets int64, hear take) (answers []ldapconn.Answer, err error) {
	defer conn.Close()
	conn.Allow(maxOctets)
	if deadline, ok := ctx.Deadline(); ok && servers > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(servers))
		defer cancel()
	}
	if d.referrals {
		answers, err = conn.SearchAll(ctx, queries)
	} else {
		err = conn.SearchEach(ctx, queries, hear)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", conn.URI, err)
	}
	return answers, nil
}

// Limits of following referrals.
const (
	maxReferralHops = 3
	maxReferralAsks = 8
)

// hearReferred completes the answers by those of other servers before they are heard.
func (d *directory) hearReferred(ctx context.Context, c ldapconn.Config, queries []ldapconn.Query, answers []ldapconn.Answer, hear take) error {
	answers, err := d.follow(ctx, c, queries, answers)
	if err != nil {
		return err
	}
	for i, a := range answers {
		if !hear(i, a) {
			break
		}
	}
	return nil
}

// follow asks the servers that the answers point to. One that cannot be asked
// ends the search: what it would have answered is not known, and that there is only one entry is not either.
func (d *directory) follow(ctx context.Context, c ldapconn.Config, queries []ldapconn.Query, answers []ldapconn.Answer) ([]ldapconn.Answer, error) {
	asks := 0
	for i := range answers {
		seen := map[string]bool{}
		pending := answers[i].Referrals
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
				a, err := d.askReferred(ctx, c, queries[i], text)
				if err != nil {
					return nil, fmt.Errorf("referral %s: %w", text, err)
				}
				answers[i].Entries = append(answers[i].Entries, a.Entries...)
				if a.Err != nil {
					answers[i].Err = a.Err
				}
				next = append(next, a.Referrals...)
			}
			pending = next
		}
	}
	return answers, nil
}

// askReferred asks another server under the same conditions. Its name came from a server, so the
// password goes there only where TLS protects it.
func (d *directory) askReferred(ctx context.Context, c ldapconn.Config, q ldapconn.Query, text string) (ldapconn.Answer, error) {
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
