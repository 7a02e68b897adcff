package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/internal/refusal"
)

// A CA that was restored from a backup may count its lists anew. What it publishes then is refused,
// since it looks like an old list that somebody replays; only the administrator can tell.

// Restart is a list that is refused because a newer one of its key and scope was seen before.
type Restart struct {
	List           Report    // of the refused list
	Note           string    // file that remembers the newer one
	SeenNumber     string    // of the newer one, decimal, "" for none
	SeenThisUpdate time.Time // of the newer one

	spki    []byte
	head    *crl.Head
	address *address // where it came from, nil for a file
}

// outdated is a list of a CA of ca_dir that is older than the note of its key and scope.
type outdated struct {
	list *indexedList
	ca   *certinfo.Certificate
	err  error
}

// findOutdated lists the CRLs that are refused so, where no other list of the same key and scope is
// as new as the note. It reads a list as a whole only where a note is newer.
func (k *Keeper) findOutdated(store *store, lists []*indexedList) []outdated {
	var old []outdated
	for _, l := range lists {
		for _, ca := range k.listSigners(l.Head().Issuer) {
			err := store.Rollback(ca.RawSPKI, l.Head())
			if err == nil || !crl.SignedWith(l, ca) {
				continue
			}
			old = append(old, outdated{list: l, ca: ca, err: err})
			break
		}
	}

	// Where the newer list is there as well, logins use that, and the old one does no harm.
	var refused []outdated
	for _, o := range old {
		if !hasCurrent(store, lists, o) {
			refused = append(refused, o)
		}
	}
	return refused
}

// hasCurrent reports whether another list of the same key and scope is not refused.
func hasCurrent(store *store, lists []*indexedList, o outdated) bool {
	scope := scopeName(o.ca.RawSPKI, o.list.Head())
	for _, l := range lists {
		sameScope := scopeName(o.ca.RawSPKI, l.Head()) == scope
		if sameScope && store.Rollback(o.ca.RawSPKI, l.Head()) == nil && crl.SignedWith(l, o.ca) {
			return true
		}
	}
	return false
}

// markOutdated sets the errors of findOutdated in the reports.
func (k *Keeper) markOutdated(store *store, lists []*indexedList, reports []Report) {
	if store == nil {
		return
	}
	for _, o := range k.findOutdated(store, lists) {
		for i := range reports {
			if r := &reports[i]; r.Path == o.list.path && r.Err == nil && r.ThisUpdate.Equal(o.list.Head().ThisUpdate) {
				r.Err = o.err
			}
		}
	}
}

// Refused finds the lists that are refused because a newer one of their key and scope was seen
// before: those in a file, or of an issuer by its name (RFC 4514) in crl_dir, in the store and at
// the addresses that Update asks. The errors are of places that could not be looked at.
func (k *Keeper) Refused(ctx context.Context, issuerOrFile string) ([]Restart, error) {
	store := k.open()
	if store == nil {
		return nil, errors.New("there is no directory for the store")
	}

	// What names a file is taken for one; anything else is the name of an issuer.
	if _, err := os.Stat(issuerOrFile); err == nil {
		d := newListDir(k.options, "file", issuerOrFile, k.wanted)
		d.load()
		if d.err != nil {
			return nil, d.err
		}

		for _, p := range d.problems {
			err = errors.Join(err, fmt.Errorf("%s: %s", p.path, p.text))
		}
		return k.restarts(store, filesIn(d)), err
	}
	return k.refusedOf(ctx, store, issuerOrFile)
}

// filesIn gives the lists of a directory as those of files.
func filesIn(d *listDir) []*indexedList {
	var lists []*indexedList
	for _, l := range d.crls {
		if c, ok := l.(*indexedList); ok {
			lists = append(lists, c)
		}
	}
	return lists
}

// refusedOf looks at all places for lists of an issuer.
func (k *Keeper) refusedOf(ctx context.Context, store *store, issuer string) ([]Restart, error) {
	var lists []*indexedList
	var errs []error
	for _, d := range k.places(store) {
		d.load()
		if d.err != nil && !errors.Is(d.err, fs.ErrNotExist) {
			errs = append(errs, d.err)
		}

		for _, l := range filesIn(d) {
			if isNamed(l.Head(), issuer) {
				lists = append(lists, l)
			}
		}
	}

	found := k.restarts(store, lists)
	// The addresses are asked too, without keeping what they give: a refused list is in no store.
	u := &update{k: k, store: store}
	var mu sync.Mutex
	asked := askRound(ctx, u.addresses(), func(ctx context.Context, a address, heard func()) error {
		r, err := k.refusedAt(ctx, store, a, issuer, heard)
		if r != nil {
			mu.Lock()
			defer mu.Unlock()
			found = append(found, *r)
		}
		return err
	})

	return found, errors.Join(append(errs, asked...)...)
}

// isNamed reports whether an issuer has the name, written out or as messages shorten it.
func isNamed(h *crl.Head, issuer string) bool {
	return strings.EqualFold(h.Issuer.RFC4514(), issuer) || refusal.Clip(h.Issuer.RFC4514()) == issuer
}

// restarts describes refused lists in files.
func (k *Keeper) restarts(store *store, lists []*indexedList) []Restart {
	var found []Restart
	for _, o := range k.findOutdated(store, lists) {
		r := k.report(store, o.list)
		found = append(found, k.restart(store, r, o.ca.RawSPKI, o.list.Head(), nil))
	}
	return found
}

// restart describes a refused list beside the note of the newer one.
func (k *Keeper) restart(store *store, r Report, spki []byte, h *crl.Head, a *address) Restart {
	path := store.path(newestDirName, scopeName(spki, h))
	var n newest
	_ = store.readJSON(path, &n) // one that cannot be read is shown as nothing
	return Restart{
		List:           r,
		Note:           path,
		SeenNumber:     n.Number,
		SeenThisUpdate: n.ThisUpdate,
		spki:           spki,
		head:           h,
		address:        a,
	}
}

// refusedAt fetches the list of an address without keeping it; nil when it is another issuer's, or
// is not refused.
func (k *Keeper) refusedAt(ctx context.Context, store *store, a address, issuer string, heard func()) (*Restart, error) {
	list, err := newFetcher(k, nil).download(ctx, request{address: a, now: k.options.Now(), heard: heard})
	if err != nil || !isNamed(list.Head(), issuer) {
		return nil, err
	}
	h := list.Head()
	signer := crl.SignerOf(list.pass, k.listSigners(h.Issuer))
	if signer == nil || store.Rollback(signer.RawSPKI, h) == nil {
		return nil, nil
	}

	r := Report{
		URL:        a.url,
		Issuer:     h.Issuer.RFC4514(),
		Delta:      h.DeltaBase != nil,
		ThisUpdate: h.ThisUpdate,
		NextUpdate: h.NextUpdate,
		Entries:    list.pass.Count,
		Signed:     true,
	}
	if h.Number != nil {
		r.Number = h.Number.String()
	}
	found := k.restart(store, r, signer.RawSPKI, h, &a)
	return &found, nil
}

// Accept notes a list as the newest of its key and scope, so that logins accept it, and fetches
// it when it came from an address.
func (k *Keeper) Accept(ctx context.Context, r Restart) error {
	store := k.open()
	if store == nil {
		return errors.New("there is no directory for the store")
	}

	// A list from the future would forbid every list until then.
	if k.options.Now().Add(k.options.Rules.ClockSkew).Before(r.head.ThisUpdate) {
		return errors.New("is not valid yet")
	}
	if err := store.accept(r.spki, r.head); err != nil {
		return err
	}

	if r.address == nil {
		return nil
	}
	// The administrator's command keeps the list, whoever owns the store.
	store.writes = true
	_, err := newFetcher(k, store).refresh(ctx, *r.address, nil)
	return err
}
