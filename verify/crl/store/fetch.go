package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/internal/refusal"
)

const (
	// confirmedFor is how long a stored CRL is used without asking its server whether it has
	// changed.
	confirmedFor = time.Hour
	// refreshWait is the longest wait for a server while a stored CRL is still valid, mirrorAfter
	// the wait for one address of a distribution point before the next is asked beside it.
	refreshWait = 2 * time.Second
	mirrorAfter = time.Second
	lockStep    = 10 * time.Millisecond
	// LongestPeriod is the longest time between two runs of Update for which logins rely on them.
	LongestPeriod = 24 * time.Hour
)

// fetcher gets CRLs from the network, each address once. It runs after the chain of the certificate
// was found good, so an address in it was at least written by a CA.
type fetcher struct {
	k     *Keeper
	store *store        // may be nil
	local bool          // for tests: certificates may name addresses of this machine
	state func() string // machineState

	mu      sync.Mutex              // guards the fields below
	fetched map[string]*fetching    // by address
	chain   []*certinfo.Certificate // of the paths that were checked
}

// MayBeSignedBy notes that the certificates of a path may have signed the lists that come. A list
// that is asked for by one certificate may be that of another's issuer.
func (f *fetcher) MayBeSignedBy(certs []*certinfo.Certificate) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range certs {
		if !slices.Contains(f.chain, c) {
			f.chain = append(f.chain, c)
		}
	}
}

// signers lists the certificates that MayBeSignedBy noted.
func (f *fetcher) signers() []*certinfo.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.chain)
}

// fetching is the fetching of one address, under way or done. Its fields are set before done is
// closed.
type fetching struct {
	done chan struct{}
	list *fetchedList
	err  error
	lost bool // the login that asked was cancelled: it says nothing about the server
}

// fetchedList is what an address gave: seen in one pass, or read from the store.
type fetchedList struct {
	crl.List
	pass    *crl.Scan // of a CRL that came just now, nil for others
	notKept error     // why it is not in the store
}

// Fetched marks what an address gave: a list of a directory does not have it.
func (l *fetchedList) Fetched() {}

// answers reports whether a certificate can be looked up.
func (l *fetchedList) answers(cert *certinfo.Certificate) bool {
	return l.pass == nil || l.pass.Asked.Contains(cert.SerialBytes)
}

// newFetcher makes a fetcher that keeps what it fetches in a store, nil for none.
func newFetcher(k *Keeper, store *store) *fetcher {
	f := &fetcher{
		k:       k,
		store:   store,
		local:   k.options.Hooks.Local,
		state:   k.options.Hooks.State,
		fetched: map[string]*fetching{},
	}

	// The state of the machine is read once at most, and only when an address has failed.
	if f.state == nil {
		f.state = sync.OnceValue(machineState)
	}
	return f
}

// address is where a CRL may be had. What the administrator wrote may be on this machine.
type address struct {
	url        string
	configured bool
	delta      bool // named as the place of a delta CRL (freshestCRL)
}

// addresses lists where the CRLs of a distribution point are. The implicit point stands for what is
// configured and gave lists of the certificate's issuer before, for delta CRLs, and where a
// certificate names nothing for what its self-signed issuer names, as the C module did.
func (f *fetcher) addresses(cert, issuer *certinfo.Certificate, point *certinfo.DistributionPoint) (groups [][]address) {
	// The addresses of one point are of the same list: any of them will do.
	if urls := crl.WebURLs([]certinfo.DistributionPoint{*point}); len(urls) > 0 {
		var group []address
		for _, u := range urls {
			group = append(group, f.k.placesOf(u, false)...)
		}
		return [][]address{group}
	}

	if !isImplicit(point) {
		return nil
	}

	for _, a := range f.configured() {
		if f.serves(a.url, cert, issuer) == servesIssuer {
			groups = append(groups, []address{a})
		}
	}

	add := func(points []certinfo.DistributionPoint, delta bool) {
		for _, u := range crl.WebURLs(points) {
			groups = append(groups, f.k.placesOf(u, delta))
		}
	}

	add(cert.FreshestCRL, true)
	if len(cert.CRLDistributionPoints) == 0 && issuer != nil && issuer.SelfIssued() {
		add(issuer.CRLDistributionPoints, false)
	}

	return groups
}

// isImplicit reports whether it is the point that every certificate has, and none that it names.
func isImplicit(p *certinfo.DistributionPoint) bool {
	return p.Name != nil && len(p.Name.FullName) == 1 && p.Name.FullName[0].Tag == certinfo.TagDirectoryName
}

// Announce starts to fetch what the certificate will ask for, so that servers are waited for at the
// same time.
func (f *fetcher) Announce(ctx context.Context, cert, issuer *certinfo.Certificate) {
	points := append([]certinfo.DistributionPoint(nil), cert.CRLDistributionPoints...)
	points = append(points, *crl.ImplicitPoint(cert))
	for i := range points {
		// The other addresses of a group are asked only where the first one does not answer.
		for _, group := range f.addresses(cert, issuer, &points[i]) {
			f.start(ctx, cert, issuer, group[0])
		}
	}
}

// Lists asks the addresses of a distribution point.
func (f *fetcher) Lists(ctx context.Context, q *crl.Query) ([]crl.List, error) {
	return f.ask(ctx, q, f.addresses(q.Cert, q.Issuer, q.Point))
}

// ask returns what the groups of addresses have.
func (f *fetcher) ask(ctx context.Context, q *crl.Query, groups [][]address) ([]crl.List, error) {
	var found []crl.List
	var errs []error
	for _, group := range groups {
		for _, a := range group {
			q.Asked[a.url] = true
		}

		list, err := f.firstOf(ctx, q.Cert, q.Issuer, group)
		// It may have been under way before this certificate was asked for.
		if err == nil && !list.answers(q.Cert) {
			list, err = f.firstOf(ctx, q.Cert, q.Issuer, group)
		}

		switch {
		case err != nil:
			errs = append(errs, err)
			// Without a delta its base still covers the certificate.
			if !group[0].delta {
				q.Doubt("%s", oneLine(err))
			}
		case crl.MayCover(list.Head(), q.Cert, q.Point):
			found = append(found, list)
		default:
			q.Doubt("%s gives %s", refusal.Clip(group[0].url), crl.Describe(list.Head()))
		}
	}

	return found, errors.Join(errs...)
}

// firstOf takes the first of several addresses of the same CRL that gives one.
func (f *fetcher) firstOf(ctx context.Context, cert, issuer *certinfo.Certificate, group []address) (*fetchedList, error) {
	var running []*fetching
	var errs []error
	for next := 0; ; {
		if next < len(group) {
			running = append(running, f.start(ctx, cert, issuer, group[next]))
			next++
		}

		// One that does not answer soon is not given up: the next one is asked beside it.
		wait := time.NewTimer(mirrorAfter)
		first := waitForOne(ctx, running, wait.C, next < len(group))
		wait.Stop()
		if first < 0 {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("%s: %w", group[next-1].url, ctx.Err())
			}
			continue
		}

		got := running[first]
		running = append(running[:first], running[first+1:]...)
		if got.err == nil {
			return got.list, nil
		}

		errs = append(errs, got.err)
		if len(running) == 0 && next == len(group) {
			return nil, errors.Join(errs...)
		}
	}
}

// waitForOne returns the index of one that is done; -1 when the time is up, for the context or to
// ask one more.
func waitForOne(ctx context.Context, running []*fetching, more <-chan time.Time, mayAskMore bool) int {
	ready := make(chan int, len(running))
	ended := make(chan struct{})
	defer close(ended)
	// ready has room for all, and ended lets go those that are still waiting.
	for i, r := range running {
		go func() {
			select {
			case <-r.done:
				ready <- i
			case <-ended:
			}
		}()
	}

	if !mayAskMore {
		more = nil
	}

	select {
	case i := <-ready:
		return i
	case <-more:
		return -1
	case <-ctx.Done():
		return -1
	}
}

// start asks an address, unless that was done. A CRL that was not kept is fetched again for a
// certificate that was not looked for in it.
func (f *fetcher) start(ctx context.Context, cert, issuer *certinfo.Certificate, a address) *fetching {
	f.mu.Lock()
	defer f.mu.Unlock()

	if old := f.fetched[a.url]; old != nil {
		select {
		case <-old.done:
			if old.holdsFor(cert) {
				return old
			}
		default:
			return old
		}
	}

	work := &fetching{done: make(chan struct{})}
	f.fetched[a.url] = work
	go func() {
		defer close(work.done)
		defer func() {
			// A fault in what a server sent must not end the login's process.
			if fault := recover(); fault != nil {
				work.err = fmt.Errorf("%s: internal fault: %v", a.url, fault)
			}
		}()
		work.list, work.err = f.get(ctx, issuer, a)
		work.lost = errors.Is(ctx.Err(), context.Canceled)
	}()

	return work
}

// holdsFor reports whether what came of an address need not be asked for again.
func (w *fetching) holdsFor(cert *certinfo.Certificate) bool {
	if w.err != nil {
		return !w.lost
	}
	return w.list.answers(cert)
}

// get brings the CRL of an address up to date.
func (f *fetcher) get(ctx context.Context, issuer *certinfo.Certificate, a address) (*fetchedList, error) {
	now := f.k.options.Now()
	held := f.held(a.url, now)
	if f.suffices(a.url, held, now) {
		return f.stored(a.url)
	}

	// The lock keeps logins at the same time from fetching the same list.
	if f.store != nil && f.store.writes {
		unlock, err := f.waitLock(ctx, a.url, held)
		if err != nil {
			return nil, err
		}
		// Another process fetches it, and what is held is valid.
		if unlock == nil {
			return f.stored(a.url)
		}
		defer unlock()

		// It may have been fetched during the wait, and so later than the time from before it.
		now = f.k.options.Now()
		held = f.held(a.url, now)
		if f.suffices(a.url, held, now) {
			return f.stored(a.url)
		}
	}

	// Where a valid list is kept the server is not waited for as long as the login may last.
	asking := ctx
	if held.valid {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, refreshWait)
		defer cancel()
	}

	list, err := f.download(asking, request{
		address: a,
		issuer:  issuer,
		held:    held.origin,
		now:     now,
	})
	// Where this login had no more time, that says nothing about the server.
	if err == nil || held.valid && ctx.Err() == nil {
		f.remember(ctx, a.url, err)
	}

	if err != nil && held.valid {
		f.k.options.Logger.Warn("CRL not refreshed: the stored one is still valid", "url", a.url, "problem", err)
		return f.stored(a.url)
	}
	return list, err
}

// suffices reports whether the stored CRL is used without asking its server.
func (f *fetcher) suffices(url string, h heldList, now time.Time) bool {
	return h.fresh(now) || h.valid && f.paused(url, now)
}

// heldList is what the store has of an address.
type heldList struct {
	origin
	valid bool // it is there, and its time is not over
}

// fresh reports whether the server confirmed the list lately, or Update, which asked last, will ask
// again in time.
func (h heldList) fresh(now time.Time) bool {
	age := now.Sub(h.Checked)
	return h.valid && age >= 0 && (age < confirmedFor || now.Before(h.Due) && h.Due.Sub(h.Checked) <= LongestPeriod)
}

// held looks at what the store has of an address. What cannot be read is as good as nothing.
func (f *fetcher) held(url string, now time.Time) (h heldList) {
	if f.store == nil {
		return h
	}
	o := f.store.origin(url)
	file, _, err := safefile.Open(f.store.listPath(o, url), safefile.Policy{MaxSize: f.k.options.MaxSize})
	if err != nil {
		return h
	}
	defer file.Close()

	id, err := crl.Identify(file)
	if err != nil {
		return h
	}

	parts, err := crl.FindParts(file, id.Size(), false)
	if err != nil || len(parts) != 1 {
		return h
	}

	head, err := parts[0].Begins(file)
	if err != nil {
		return h
	}

	h.origin = o
	h.valid = head.InDate(now)
	return h
}

// stored reads the CRL of an address from the store.
func (f *fetcher) stored(url string) (*fetchedList, error) {
	d := newListDir(f.k.options, "store", f.store.listPath(f.store.origin(url), url), f.k.wanted)
	d.store = f.store
	d.load()

	switch {
	case d.err != nil:
		return nil, d.err
	case len(d.crls) != 1:
		return nil, fmt.Errorf("%s: the stored CRL cannot be read", url)
	}
	return &fetchedList{List: d.crls[0]}, nil
}

// waitLock waits for another process that fetches the same; nil without an error when that need not
// be waited for.
func (f *fetcher) waitLock(ctx context.Context, url string, held heldList) (unlock func(), err error) {
	for {
		unlock, err := f.store.lock(url)
		// A store that cannot be locked cannot be written either: the list is fetched all the same.
		if err != nil {
			f.k.options.Logger.Warn("CRL store cannot be written", "problem", err)
			return func() {}, nil
		}

		if unlock != nil {
			return unlock, nil
		}

		if held.valid {
			return nil, nil
		}

		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: another process is fetching it: %w", url, ctx.Err())
		case <-time.After(lockStep):
		}
	}
}

// clean makes an error name the address once, and a deadline by what it means.
func clean(address string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}

	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("no answer in time")
	}

	if strings.HasPrefix(err.Error(), address) {
		return err
	}
	return fmt.Errorf("%s: %w", address, err)
}
