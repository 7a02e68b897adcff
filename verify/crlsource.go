package verify

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/verify/crl"
)

// crlSources is where CRLs come from: crl_dir, the store, files of crl_url, and for crl_online and crl_auto the network.
// All that is found is judged together, so that the newest that is valid counts, wherever it was.
type crlSources struct {
	local   []*crlDir
	network *crlFetcher // nil for crl_offline
}

// newCRLRevocation checks against the CRLs that cert_policy names: crl_offline looks into crl_dir and the store,
// crl_online asks the network and looks into the store, crl_auto does all.
func newCRLRevocation(v *Verifier) *crl.Checker {
	o := v.options
	store := openStore(o.StoreDir)
	sources := &crlSources{}
	add := func(key, path string, optional bool) {
		d := newCRLDir(o, key, path, &v.wanted)
		d.store, d.optional = store, optional
		sources.local = append(sources.local, d)
	}
	if o.Policy.CRL != "offline" {
		sources.network = newCRLFetcher(v, store)
	}
	if o.Policy.CRL != "online" {
		add("crl_dir", o.CRLDir, o.Policy.CRL == "auto")
	}
	for _, u := range o.CRLURLs {
		if path, ok, err := fetch.FilePath(u); ok && err == nil {
			add("crl_url", path, false)
		}
	}
	if store != nil {
		add("store", filepath.Join(store.dir, crlDirName), true)
	}
	r := &crl.Checker{
		Source:     sources,
		Rules:      v.rules,
		LeafOnly:   o.CRLLeafOnly,
		Grace:      o.CRLGrace,
		PassedOver: v.passedOver,
	}
	if sources.network != nil {
		r.Network = sources.network
	}
	if store != nil {
		r.Notes = store
	}
	return r
}

// Lists gathers what the places hold. What is wrong with one is told with what the others have.
func (m *crlSources) Lists(ctx context.Context, q *crl.Query) ([]crl.List, error) {
	var found []crl.List
	var errs []error
	if m.network != nil && !q.Settled {
		lists, err := m.network.Lists(ctx, q)
		found, errs = append(found, lists...), append(errs, err)
	}
	for _, d := range m.local {
		lists, err := d.Lists(ctx, q)
		found, errs = append(found, lists...), append(errs, err)
	}
	if len(found) > 0 {
		return found, nil
	}
	return nil, oneLine(errors.Join(errs...))
}

// oneLine joins what several places say.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}
