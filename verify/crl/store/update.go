package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/verify/crl"
)

// What `pam-pkcs11 crl` does ahead of logins: fetch CRLs, and build their indexes.

// Report is what is known about one CRL, or what became of one address.
type Report struct {
	Path       string // of the file; "" for an address that gave none
	URL        string // where it came from, "" for a file of crl_dir
	Issuer     string // RFC 4514; "" when it could not be read
	Number     string // decimal, "" for none
	Delta      bool
	ThisUpdate time.Time
	NextUpdate time.Time // zero for none
	Entries    int       // -1 when the list was not read
	Indexed    bool
	Signed     bool // by a CA of ca_dir
	InDate     bool // of an address that gave none: the list that it gave before is still in date
	NotKept    bool // of an address that gave one which is no use
	NotIndexed bool // Err is that there was no time for its index
	Err        error
}

// Progress is called with how far the reading of a CRL is, by one goroutine at a time. Total is -1
// when it is not known.
type Progress func(what string, done, total int64)

// ctimeGrain is how old a file's ctime must be before an index may rely on it: two changes within
// the clock's grain look like one.
const ctimeGrain = 50 * time.Millisecond

// Update fetches the CRLs of crl_url, of the certificates of ca_dir and of the distribution points
// recorded at logins, and builds the indexes of all CRLs in the store and in crl_dir. It needs
// Options.StoreDir and the right to write there. Each address and each CRL has a report; the error
// is that nothing could be done.
func (k *Keeper) Update(ctx context.Context, progress Progress) ([]Report, error) {
	store := k.open()
	if store == nil {
		return nil, errors.New("there is no directory for the store")
	}
	if err := store.fs.Mkdir(store.path(listDirName)); err != nil {
		return nil, err
	}

	// The command keeps what it fetches, whoever owns the directory.
	store.writes = true
	store.period = min(k.options.Period, LongestPeriod)
	u := &update{
		k:        k,
		store:    store,
		fetcher:  newFetcher(k, store),
		progress: progress,
	}

	u.sweep()
	u.removeOldAuthorities()
	u.fetcher.MayBeSignedBy(k.KeptSigners())
	// Lists of CAs below ca_dir are signed with keys that only the kept certificates have.
	u.fetch(ctx)

	for _, d := range u.places() {
		u.index(ctx, d)
	}

	k.markOutdated(store, u.lists, u.reports)
	u.removeOldIndexes()
	// Where only the time was over, each list that it did not suffice for has a report.
	if errors.Is(ctx.Err(), context.Canceled) {
		return u.reports, ctx.Err()
	}

	return u.reports, nil
}

// fetch asks all addresses, those that failed last time behind the others. A quarter of the time is
// left for the indexes.
func (u *update) fetch(ctx context.Context) {
	all := u.addresses()
	u.failedLast(all)

	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)*3/4)
		defer cancel()
	}
	errs := askRound(ctx, all, func(ctx context.Context, a address, heard func()) error {
		u.showProgress(a.url, 0, -1)
		_, err := u.fetcher.refresh(ctx, a, heard)
		return err
	})

	now := u.k.options.Now()
	for i, err := range errs {
		if err != nil {
			u.reports = append(u.reports, Report{
				URL:     all[i].url,
				Entries: -1,
				InDate:  u.fetcher.held(all[i].url, now).valid,
				NotKept: errors.Is(err, errNotKept),
				Err:     err,
			})
		}
	}
}

// refresh brings the CRL of an address up to date, whatever the time since its server was last
// asked. heard is called for all that comes, nil for nobody.
func (f *fetcher) refresh(ctx context.Context, a address, heard func()) (*fetchedList, error) {
	held := f.held(a.url, f.k.options.Now())
	// No held list: unlike a login this waits until the other process is done.
	unlock, err := f.waitLock(ctx, a.url, heldList{})
	if err != nil {
		return nil, err
	}
	defer unlock()

	list, err := f.download(ctx, request{
		address: a,
		held:    held.origin,
		now:     f.k.options.Now(),
		heard:   heard,
	})
	// A login can use such a list once; an update has nothing of it.
	if err == nil && list.notKept != nil {
		err = fmt.Errorf("%s: %w: %w", a.url, errNotKept, list.notKept)
	}

	f.remember(ctx, a.url, err)
	return list, err
}

// update is the state of one Update.
type update struct {
	k        *Keeper
	store    *store
	fetcher  *fetcher
	showing  sync.Mutex // guards the calls of progress
	progress Progress
	reports  []Report
	kept     map[string]bool // names of indexes in use
	lists    []*indexedList
}

// showProgress calls progress, one goroutine at a time.
func (u *update) showProgress(what string, done, total int64) {
	u.showing.Lock()
	defer u.showing.Unlock()

	if u.progress != nil {
		u.progress(what, done, total)
	}
}

// addresses lists each address once: those of the configuration, of the CAs, and of certificates
// that logged in.
func (u *update) addresses() []address {
	var all []address
	seen := map[string]bool{}
	add := func(places []address) {
		for _, a := range places {
			// Files are read where they are, and not fetched.
			if _, file, _ := fetch.FilePath(a.url); !file && !seen[a.url] {
				seen[a.url] = true
				all = append(all, a)
			}
		}
	}

	for _, url := range u.k.options.URLs {
		add([]address{{url: url, configured: true}})
	}
	for _, c := range u.k.authorities.All() {
		for _, url := range crl.WebURLs(append(slices.Clone(c.CRLDistributionPoints), c.FreshestCRL...)) {
			add(u.k.placesOf(url, false))
		}
	}

	for _, url := range u.store.points() {
		add(u.k.placesOf(url, false))
	}

	return all
}

// places are the directories and files with CRLs.
func (u *update) places() []*listDir { return u.k.places(u.store) }

// places lists the directories and files with CRLs; one that is missing is no error.
func (k *Keeper) places(store *store) []*listDir {
	o := k.options
	var all []*listDir
	add := func(key, path string) {
		d := newListDir(o, key, path, k.wanted)
		d.store = store
		d.optional = true
		all = append(all, d)
	}

	if o.Dir != "" {
		add("crl_dir", o.Dir)
	}

	for _, url := range o.URLs {
		if path, ok, err := fetch.FilePath(url); ok && err == nil {
			add("crl_url", path)
		}
	}

	if store != nil {
		add("store", store.path(listDirName))
	}

	return all
}

// index builds the missing indexes of a place, and reports on each of its lists.
func (u *update) index(ctx context.Context, d *listDir) {
	d.load()
	if d.err != nil && !errors.Is(d.err, fs.ErrNotExist) {
		u.reports = append(u.reports, Report{Path: d.path, Entries: -1, Err: d.err})
	}
	for _, p := range d.problems {
		u.reports = append(u.reports, Report{Path: p.path, Entries: -1, Err: errors.New(p.text)})
		// The next run then fetches it anew, without asking whether it has changed.
		if d.key == "store" {
			u.discard(p.path)
		}
	}

	for _, l := range d.crls {
		c, ok := l.(*indexedList)
		if !ok {
			continue
		}
		u.lists = append(u.lists, c)

		r := u.k.report(u.store, c)
		if u.kept == nil {
			u.kept = map[string]bool{}
		}
		u.kept[indexName(c.id, c.part.At)] = true

		if c.index != nil {
			u.reports = append(u.reports, r)
			continue
		}
		// A small list has no index to make, but is checked even when the time is over.
		if ctx.Err() != nil && c.part.Size >= minIndexed {
			r.Err = errNotIndexed
			r.NotIndexed = true
			u.reports = append(u.reports, r)
			continue
		}

		scan, signer, err := u.build(c)
		if scan != nil {
			r.Entries = scan.Count
			r.Signed = signer
		}
		if r.Err = err; err == nil {
			r.Indexed = c.part.Size >= minIndexed
		} else if scan == nil && d.key == "store" {
			u.discard(c.path)
		}

		u.reports = append(u.reports, r)
	}
}

// discard removes a stored CRL that cannot be read, so that it is fetched anew.
func (u *update) discard(path string) {
	_ = u.store.fs.Remove(strings.TrimSuffix(path, ".crl") + ".json")
	_ = u.store.fs.Remove(path)
}

// errNotKept is for an address whose list is no use to later logins.
var errNotKept = errors.New("its list is not kept")

// errNotIndexed is for lists that no time was left for; logins read such a list as a whole.
var errNotIndexed = errors.New("no index is made: the time of this run was over")

// build makes the pass over a CRL, checks its signature and writes its index. scan is nil when it
// cannot be read.
func (u *update) build(c *indexedList) (scan *crl.Scan, signed bool, err error) {
	waitForGrain(c.id)
	in, size, err := c.Open()
	if err != nil {
		return nil, false, err
	}
	defer in.Close()

	builder := crl.NewIndexBuilder(c.part.Der)
	visit := builder.Visit
	// A small list is read for its signature alone.
	if c.part.Size < minIndexed {
		visit = nil
	}
	counted := &countingReader{in: in, told: func(n int64) { u.showProgress(c.path, n, size) }}
	if scan, err = crl.ScanDER(counted, size, nil, visit); err != nil {
		return nil, false, err
	}

	signer := crl.SignerOf(scan, u.k.listSigners(scan.Issuer))
	if signer == nil {
		return scan, false, errors.New("no CA of ca_dir signed it: no index is made")
	}

	// One from the future, published ahead or seen by a wrong clock, must not push out the one that
	// is valid now.
	if !u.k.options.Now().Add(u.k.options.Rules.ClockSkew).Before(scan.ThisUpdate) {
		if err := u.store.noteNewest(signer.RawSPKI, &scan.Head); err != nil && !errors.Is(err, crl.ErrOlder) {
			return scan, true, err
		}
	}

	if visit == nil {
		return scan, true, nil
	}

	return scan, true, u.store.replace(u.store.path(indexDirName, indexName(c.id, c.part.At)), func(w io.Writer) error {
		return builder.Index(w, c.id, c.part.At, signer.RawSPKI, scan)
	})
}

// waitForGrain lets the clock of the file system go on, so that a later change gives the file
// another ctime.
func waitForGrain(id crl.FileID) {
	if age := time.Since(id.Changed()); age < ctimeGrain {
		time.Sleep(ctimeGrain)
	}
}

// countingReader counts what is read.
type countingReader struct {
	in   io.Reader
	n    int64
	told func(int64)
}

// Read reads, and calls told with all that was read so far.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	c.told(c.n)
	return n, err
}

// sweep removes what a process left that was killed while it wrote.
func (u *update) sweep() {
	for _, sub := range []string{"", listDirName, indexDirName, newestDirName} {
		entries, err := os.ReadDir(u.store.path(sub))
		if err != nil {
			continue
		}

		for _, e := range entries {
			// A younger file may be one that a login is writing now.
			info, err := e.Info()
			if err == nil && strings.HasPrefix(e.Name(), tempPrefix) && time.Since(info.ModTime()) > time.Hour {
				_ = u.store.fs.Remove(u.store.path(sub, e.Name()))
			}
		}
	}
}

// removeOldIndexes removes the indexes of files that are not there any more.
func (u *update) removeOldIndexes() {
	entries, err := os.ReadDir(u.store.path(indexDirName))
	if err != nil {
		return
	}

	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".idx") && !u.kept[e.Name()] {
			_ = u.store.fs.Remove(u.store.path(indexDirName, e.Name()))
		}
	}
}

// report describes a CRL by what stands around its entries.
func (k *Keeper) report(store *store, c *indexedList) Report {
	h := c.Head()
	r := Report{
		Path:       c.path,
		Issuer:     h.Issuer.RFC4514(),
		Delta:      h.DeltaBase != nil,
		ThisUpdate: h.ThisUpdate,
		NextUpdate: h.NextUpdate,
		Entries:    -1,
		Indexed:    c.index != nil,
	}
	if h.Number != nil {
		r.Number = h.Number.String()
	}
	// An index is made only of a list whose signature is good.
	if c.index != nil {
		r.Entries = c.index.Entries()
		r.Signed = true
	}

	// Only a stored list has come from an address.
	if store != nil && filepath.Dir(c.path) == store.path(listDirName) {
		var o origin
		if store.readJSON(strings.TrimSuffix(c.path, ".crl")+".json", &o) == nil {
			r.URL = o.URL
		}
	}

	return r
}

// List lists the CRLs that are kept or configured, without reading them. One that is refused
// because a newer one was seen before has an error; where another one is as new as that, it is no
// fault.
func (k *Keeper) List() []Report {
	var reports []Report
	var lists []*indexedList
	store := k.open()
	for _, d := range k.places(store) {
		d.load()
		if d.err != nil && !errors.Is(d.err, fs.ErrNotExist) {
			reports = append(reports, Report{Path: d.path, Entries: -1, Err: d.err})
		}
		for _, p := range d.problems {
			reports = append(reports, Report{Path: p.path, Entries: -1, Err: errors.New(p.text)})
		}

		for _, l := range d.crls {
			if c, ok := l.(*indexedList); ok {
				lists = append(lists, c)
				reports = append(reports, k.report(store, c))
			}
		}
	}

	k.markOutdated(store, lists, reports)
	return reports
}

// Check reads the CRLs of a file from their beginning to their end, with their signatures and
// dates.
func (k *Keeper) Check(path string, progress Progress) ([]Report, error) {
	policy := safefile.Data()
	policy.MaxSize = k.options.MaxSize
	f, resolved, err := safefile.Open(path, policy)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	id, err := crl.Identify(f)
	if err != nil {
		return nil, err
	}
	// What is checked may be cut short or patched: no guess about where a list ends.
	parts, err := crl.FindParts(f, id.Size(), true)
	if err != nil || len(parts) == 0 {
		return nil, errors.Join(fmt.Errorf("%s: no CRL can be read", resolved.Path), err)
	}

	var reports []Report
	for _, part := range parts {
		reports = append(reports, k.checkPart(path, f, part, progress))
	}
	return reports, nil
}

// checkPart reads one CRL of a file.
func (k *Keeper) checkPart(path string, f io.ReaderAt, part crl.Part, progress Progress) Report {
	r := Report{Path: path, Entries: -1}
	body := part.Body(f)
	defer body.Close()

	in := &countingReader{in: body, told: func(n int64) {
		if progress != nil {
			progress(path, n, part.Der)
		}
	}}
	scan, err := crl.ScanDER(in, part.Der, nil, nil)
	if err != nil {
		r.Err = err
		return r
	}

	r.Issuer = scan.Issuer.RFC4514()
	r.Delta = scan.DeltaBase != nil
	r.ThisUpdate = scan.ThisUpdate
	r.NextUpdate = scan.NextUpdate
	r.Entries = scan.Count
	if scan.Number != nil {
		r.Number = scan.Number.String()
	}

	r.Err = k.faultOf(scan, &r.Signed)
	return r
}

// faultOf is the reason why a login would not use a CRL.
func (k *Keeper) faultOf(scan *crl.Scan, signed *bool) error {
	signer := crl.SignerOf(scan, k.listSigners(scan.Issuer))
	if *signed = signer != nil; !*signed {
		return errors.New("no CA of ca_dir that may sign CRLs signed it")
	}
	if _, err := k.options.Rules.CheckScheme(signer, scan.Algorithm); err != nil {
		return errors.New("is " + err.Detail)
	}

	at := crl.Moment{Now: k.options.Now(), Skew: k.options.Rules.ClockSkew, Grace: k.options.Grace}
	if why := scan.Hindrance(at, true); why != "" {
		return errors.New(why)
	}
	return k.open().Rollback(signer.RawSPKI, &scan.Head)
}

// Granted records the distribution points of a chain that logged in, the certificate first, with
// its CA certificates that are not in ca_dir, so that an update fetches and checks its lists ahead
// of the next login. It does nothing without a CRL word, and for others than the owner of the
// store.
func (k *Keeper) Granted(chain []*certinfo.Certificate) {
	if k.options.Word == "" {
		return
	}

	var urls []string
	var authorities []*certinfo.Certificate
	for i, c := range chain {
		urls = append(urls, crl.WebURLs(append(slices.Clone(c.CRLDistributionPoints), c.FreshestCRL...))...)
		// The certificate itself, at 0, is no authority; ca_dir keeps its own.
		if i > 0 && !k.authorities.Has(c) {
			authorities = append(authorities, c)
		}
	}

	if len(urls)+len(authorities) == 0 {
		return
	}

	store := k.open()
	if store == nil || !store.writes {
		return
	}
	// The login has succeeded, whether or not this can be recorded.
	if err := errors.Join(store.record(urls), store.keepAuthorities(authorities)); err != nil {
		k.options.Logger.Warn("what this chain's lists need is not recorded", "problem", err)
	}
}
