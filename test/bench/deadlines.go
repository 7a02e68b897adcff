package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch/fetchtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

const (
	lateDeadline  = time.Second            // for one server
	severalLate   = 3 * time.Second        // for several: each that is silent lets the next be asked too
	lateLimit     = 100 * time.Millisecond // of the verdict, from its deadline
	lateRounds    = 5
	betweenChecks = 30 * time.Millisecond // the checks of a round begin so far apart, that no verdict waits for another
)

// late is a way of asking servers from which nothing comes in time.
type late struct {
	name     string
	deadline time.Duration
	options  func() verify.Options
	worst    time.Duration // verdict minus deadline
}

// deadlines measures how far from its deadline the verdict is when servers are late.
func (b *crlBench) deadlines() error {
	leaf, err := leafOf(b.dir)
	if err != nil {
		return err
	}
	servers, end, err := fetchtest.AllLate(b.scene.CA.CRL(testca.CRL{RawEntries: testca.ManyRevoked(100)}))
	if err != nil {
		return err
	}
	defer end()
	var all []*late
	for _, soft := range []bool{false, true} {
		all = append(all, b.lateWays(servers, soft)...)
	}
	var mu sync.Mutex
	for range lateRounds {
		var group sync.WaitGroup
		var errs []error
		for _, l := range all {
			group.Go(func() {
				off, err := l.measure(leaf)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", l.name, err))
				}
				if off.Abs() >= l.worst.Abs() {
					l.worst = off
				}
			})
			time.Sleep(betweenChecks)
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	fmt.Fprintf(b.out, "\nLATE SERVERS, the worst of %d rounds: verdict minus deadline (limit: %d ms before or after)\n", lateRounds, lateLimit.Milliseconds())
	for _, l := range all {
		b.near(l.name, l.worst)
	}
	return b.lateLogins(servers)
}

// lateWays are the options for each server, and for all of them together.
func (b *crlBench) lateWays(servers []fetchtest.Late, soft bool) (all []*late) {
	add := func(name string, crls, responders []string, resolver func() *net.Resolver) {
		deadline := lateDeadline
		if len(crls)+len(responders) > 1 {
			deadline = severalLate
		}
		if soft {
			name += ", soft"
		}
		all = append(all, &late{name: name, deadline: deadline, options: func() verify.Options {
			o := verify.Options{CADir: filepath.Join(b.dir, "ca.pem"), Policy: verify.Policy{CA: true, OCSP: responders != nil}, CRLURLs: crls, Soft: soft}
			if o.OCSP.URLs = responders; crls != nil {
				o.Policy.CRL = "online"
			}
			if resolver != nil {
				o.Resolver = resolver()
			}
			return o
		}})
	}
	var every, web []string
	hangs := servers[slices.IndexFunc(servers, func(s fetchtest.Late) bool { return s.Resolver != nil })].Resolver
	for _, s := range servers {
		every = append(every, s.URL)
		add("CRL: "+s.Name, []string{s.URL}, nil, s.Resolver)
		if !s.LDAP {
			web = append(web, s.URL)
			add("OCSP: "+s.Name, nil, []string{s.URL}, s.Resolver)
		}
	}
	add("CRL: all of them", every, nil, hangs)
	add("OCSP: all of them", nil, web, hangs)
	add("OCSP and CRL: all of them", every, web, hangs)
	return all
}

// measure makes one check. It must end for want of an answer.
func (l *late) measure(leaf *certinfo.Certificate) (time.Duration, error) {
	v, err := verify.New(l.options())
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.deadline)
	defer cancel()
	end, _ := ctx.Deadline()
	result, err := v.Check(ctx, leaf, nil)
	off := time.Since(end)
	unknown := verify.ReasonOf(err) == verify.ReasonRevocationUnknown
	if err == nil {
		unknown = slices.ContainsFunc(result.Decisions, func(d verify.Decision) bool { return d.Reason == verify.ReasonSoft })
	}
	if !unknown {
		return 0, fmt.Errorf("the verdict was not for want of an answer: %w", err)
	}
	return off, nil
}

// lateLogins are whole logins that go on without an answer, from the call of pam_authenticate to the verdict; the PIN is
// there at once.
func (b *crlBench) lateLogins(servers []fetchtest.Late) error {
	defer keepStore()()
	for i, s := range servers {
		if s.Resolver != nil {
			continue
		}
		name := fmt.Sprintf("late-%d", i)
		c := &contestant{bench: b.bench, card: b.card, name: name}
		module := []string{"cert_policy = crl_online;", fmt.Sprintf("crl_url = \"%s\";", s.URL), "revocation = soft;"}
		conf, err := b.scene.Config(name, b.card, []string{"use_mappers = cn;", "verify_timeout = 1;", "mapper cn {\n    debug = false;\n    module = internal;\n    ignorecase = false;\n  }"}, module)
		if err != nil {
			return err
		}
		if err := b.scene.Service(name, "required MODULE config_file="+conf); err != nil {
			return err
		}
		var worst time.Duration
		for range 3 {
			sample, err := c.run(0, nil)
			if err != nil {
				return err
			}
			if off := sample.prompt + sample.verdict - time.Second; off.Abs() >= worst.Abs() {
				worst = off
			}
		}
		b.near("login, soft: "+s.Name, worst)
	}
	return nil
}

// keepStore returns what takes out of this machine's store the files that came in since, and the store if it was not
// there: logins leave a lock for each CRL.
func keepStore() (restore func()) {
	lists := filepath.Join(verify.DefaultStore, "crl")
	before, _ := os.ReadDir(lists)
	_, noStore := os.Stat(verify.DefaultStore)
	known := map[string]bool{}
	for _, e := range before {
		known[e.Name()] = true
	}
	return func() {
		after, _ := os.ReadDir(lists)
		for _, e := range after {
			if !known[e.Name()] {
				_ = os.Remove(filepath.Join(lists, e.Name()))
			}
		}
		if noStore != nil {
			_ = os.Remove(lists) // only where they are empty
			_ = os.Remove(verify.DefaultStore)
		}
	}
}

// near says how far a verdict is from its deadline.
func (b *crlBench) near(name string, off time.Duration) {
	said := "within the limit"
	if off.Abs() > lateLimit {
		said, b.good = "MORE THAN THE LIMIT", false
	}
	fmt.Fprintf(b.out, "  %-60s %+8.1f ms, %s\n", name, float64(off)/float64(time.Millisecond), said)
}
