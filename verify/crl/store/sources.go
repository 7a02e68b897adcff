package store

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/verify/crl"
)

// sources is where CRLs come from: crl_dir, the store, files of crl_url, and for crl_online and
// crl_auto the network. All that is found is used together, so that the newest that is valid
// counts, wherever it was.
type sources struct {
	local   []*listDir
	network *fetcher // nil for crl_offline
}

// Checker checks against the CRLs that cert_policy names: crl_offline looks into crl_dir and the
// store, crl_online asks the network and looks into the store, crl_auto does all.
func (k *Keeper) Checker() *crl.Checker {
	o := k.options
	store := k.open()
	sources := &sources{}
	add := func(key, path string, optional bool) {
		d := newListDir(o, key, path, k.wanted)
		d.store = store
		d.optional = optional
		sources.local = append(sources.local, d)
	}

	if o.Word != "offline" {
		sources.network = newFetcher(k, store)
	}
	if o.Word != "online" {
		add("crl_dir", o.Dir, o.Word == "auto")
	}

	for _, u := range o.URLs {
		if path, ok, err := fetch.FilePath(u); ok && err == nil {
			add("crl_url", path, false)
		}
	}
	// What was fetched before counts in every case, also offline.
	if store != nil {
		add("store", filepath.Join(store.dir, listDirName), true)
	}

	r := &crl.Checker{
		Source:     sources,
		Rules:      k.options.Rules,
		LeafOnly:   o.LeafOnly,
		Grace:      o.Grace,
		PassedOver: k.passedOver,
	}
	// An interface that holds a nil pointer would not be nil, hence the ifs.
	if sources.network != nil {
		r.Network = sources.network
	}
	if store != nil {
		r.Notes = store
	}

	return r
}

// Lists gathers what the places hold. The problem of one place is reported only when none of them
// has a list.
func (m *sources) Lists(ctx context.Context, q *crl.Query) ([]crl.List, error) {
	var found []crl.List
	var errs []error
	// Where the known lists say enough, no address is waited for.
	if m.network != nil && !q.Settled {
		lists, err := m.network.Lists(ctx, q)
		found = append(found, lists...)
		errs = append(errs, err)
	}

	for _, d := range m.local {
		lists, err := d.Lists(ctx, q)
		found = append(found, lists...)
		errs = append(errs, err)
	}

	if len(found) > 0 {
		return found, nil
	}
	return nil, oneLine(errors.Join(errs...))
}

// oneLine joins the errors of several places in one line.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}
