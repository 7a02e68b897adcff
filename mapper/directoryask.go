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

// ask sends the queries over one connection, all at once, and returns their answers in their order. A
// server that fails while it is asked is passed over for the next one.
func (d *directory) ask(ctx context.Context, queries []ldapconn.Query, maxOctets int64) ([]ldapconn.Answer, error) {
	c, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(c.Password)
	defer d.dead.save(c.Dead)
	c.MaxBytes = maxOctets
	var errs []error
	for len(c.URIs) > 0 {
		uri, answers, err := d.askFirst(ctx, c, queries)
		if err == nil {
			return d.follow(ctx, c, queries, answers)
		}
		errs = append(errs, err)
		if uri == "" || ctx.Err() != nil {
			break
		}
		d.log.Warn("directory server fails", "server", uri, "error", err)
		c.Dead.Mark(uri)
		c.URIs = slices.DeleteFunc(c.URIs, func(u string) bool { return u == uri })
	}
	return nil, d.explain(errors.Join(errs...))
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

// askFirst asks the first server that lets itself be asked; uri is "" when there is none. While there is
// another server, this one may take only its share of the time.
func (d *directory) askFirst(ctx context.Context, c ldapconn.Config, queries []ldapconn.Query) (uri string, answers []ldapconn.Answer, err error) {
	conn, err := ldapconn.Dial(ctx, c)
	if err != nil {
		return "", nil, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok && len(c.URIs) > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(c.URIs)))
		defer cancel()
	}
	answers, err = conn.SearchAll(ctx, queries)
	if err != nil {
		return conn.URI, nil, fmt.Errorf("%s: %w", conn.URI, err)
	}
	return conn.URI, answers, nil
}

// Limits of following referrals.
const (
	maxReferralHops = 3
	maxReferralAsks = 8
)

// follow asks the servers that the answers point to, where the block says so. One that cannot be asked
// ends the search: what it would have answered is not known, and that there is only one entry is not either.
func (d *directory) follow(ctx context.Context, c ldapconn.Config, queries []ldapconn.Query, answers []ldapconn.Answer) ([]ldapconn.Answer, error) {
	if !d.referrals {
		return answers, nil
	}
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
