package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/verify/internal/rules"
)

// Authorities that are on cards alone. The lists of an issuing CA that is not in ca_dir are signed
// by nobody whom `pam-pkcs11 crl` knows, so the CA certificates of chains that logged in are kept
// beside the distribution points. They are no anchors and stand in no login's chain: at each run a
// path from each to a CA of ca_dir is looked for anew, and what they sign is indexed under their
// key, which a login has to find in its own chain.

const (
	authorityDirName = "ca"
	authoritySuffix  = ".der"
	// maxKeptAuthorities bounds what cards can make us keep and check.
	maxKeptAuthorities = 200
)

func (s *crlStore) authorityPath(c *certinfo.Certificate) string {
	return s.path(authorityDirName, shortName(c.Raw)+authoritySuffix)
}

// keepAuthorities writes down the CA certificates of a chain, those that are known cost no write.
func (s *crlStore) keepAuthorities(certs []*certinfo.Certificate) error {
	for _, c := range certs {
		path := s.authorityPath(c)
		if _, err := os.Lstat(path); err == nil || len(c.Raw) > maxStoreRecord {
			continue
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err == nil && len(entries) >= maxKeptAuthorities {
			return fmt.Errorf("%s holds %d certificates already", filepath.Dir(path), len(entries))
		}
		if err := s.replaceBytes(path, c.Raw); err != nil {
			return err
		}
	}
	return nil
}

// authorities reads what was kept. A file that cannot be read, or is not what its name says, is
// passed over.
func (s *crlStore) authorities() (all []*certinfo.Certificate) {
	if s == nil {
		return nil
	}
	entries, err := os.ReadDir(s.path(authorityDirName))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if len(all) == maxKeptAuthorities || !strings.HasSuffix(e.Name(), authoritySuffix) {
			continue
		}
		data, _, err := safefile.ReadFile(s.path(authorityDirName, e.Name()), s.policy)
		if err != nil {
			continue
		}
		if c, err := certinfo.Parse(data); err == nil && s.authorityPath(c) == s.path(authorityDirName, e.Name()) {
			all = append(all, c)
		}
	}
	return all
}

// listSigners gives the certificates of a name that may have signed a list: those of ca_dir, and
// what was kept and has a good path to one of ca_dir now. It is for `pam-pkcs11 crl`, not for
// logins.
func (v *Verifier) listSigners(name certinfo.Name) []*certinfo.Certificate {
	v.keptOnce.Do(v.findKept)
	return append(slices.Clone(v.store.bySubj[name.Key()]), v.kept[name.Key()]...)
}

// keptSigners gives what was kept and has a good path.
func (v *Verifier) keptSigners() (all []*certinfo.Certificate) {
	v.keptOnce.Do(v.findKept)
	for _, certs := range v.kept {
		all = append(all, certs...)
	}
	return all
}

// findKept looks for a path from each certificate that was kept. Whether it is revoked is for
// logins to find out.
func (v *Verifier) findKept() {
	v.kept = map[string][]*certinfo.Certificate{}
	all := openStore(v.options.StoreDir).authorities()
	for _, c := range all {
		ctx, cancel := context.WithTimeout(context.Background(), defaultDeadline)
		if v.leadsToAnchor(ctx, c, all) {
			v.kept[c.Subject.Key()] = append(v.kept[c.Subject.Key()], c)
		}
		cancel()
	}
}

func (v *Verifier) leadsToAnchor(ctx context.Context, c *certinfo.Certificate, others []*certinfo.Certificate) bool {
	if v.store.has(c) || !rules.IsCA(c) || c.PublicKeyErr != nil || v.rules.CheckKey(c, c.PublicKey) != nil {
		return false
	}
	s := newSearch(ctx, v, v.options.Now(), nil)
	for _, o := range others {
		key := o.Subject.Key()
		s.extra[key] = append(s.extra[key], o)
	}
	s.initial, s.accept = initialPolicies{}, s.validateChain
	_, err := s.find(c)
	return err == nil
}

// removeOldAuthorities removes what was kept and whose time is over.
func (u *crlUpdate) removeOldAuthorities() {
	now := u.v.options.Now()
	for _, c := range u.store.authorities() {
		if now.After(c.NotAfter.Add(u.v.options.ClockSkew)) {
			if err := u.store.fs.remove(u.store.authorityPath(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				u.v.options.Logger.Warn("CRL store cannot be written", "problem", err)
			}
		}
	}
}
