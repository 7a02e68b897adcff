package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/safefile"
)

// Authorities that are on cards alone. The lists of an issuing CA that is not in ca_dir are signed
// with a key that `pam-pkcs11 crl` does not know, so the CA certificates of chains that logged in
// are kept beside the distribution points. They are no anchors and stand in no login's chain: at
// each run a path from each to a CA of ca_dir is looked for anew, and what they sign is indexed
// under their key, which a login has to find in its own chain.

const (
	authorityDirName = "ca"
	authoritySuffix  = ".der"
	// maxKeptAuthorities bounds how many certificates cards can make this machine keep and check.
	maxKeptAuthorities = 200
)

// authorityPath is the file of a certificate, by its digest.
func (s *store) authorityPath(c *certinfo.Certificate) string {
	return s.path(authorityDirName, shortName(c.Raw)+authoritySuffix)
}

// keepAuthorities keeps the CA certificates of a chain; those that are kept already cost no write.
func (s *store) keepAuthorities(certs []*certinfo.Certificate) error {
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
func (s *store) authorities() (all []*certinfo.Certificate) {
	if s == nil {
		return nil
	}
	entries, err := os.ReadDir(s.path(authorityDirName))
	if err != nil {
		return nil
	}

	for _, e := range entries {
		// The bound holds for reading too: somebody may have copied files there.
		if len(all) == maxKeptAuthorities || !strings.HasSuffix(e.Name(), authoritySuffix) {
			continue
		}
		data, _, err := safefile.ReadFile(s.path(authorityDirName, e.Name()), s.policy)
		if err != nil {
			continue
		}
		// The name is a digest of the certificate, so a file that was damaged or renamed is seen.
		if c, err := certinfo.Parse(data); err == nil && s.authorityPath(c) == s.path(authorityDirName, e.Name()) {
			all = append(all, c)
		}
	}
	return all
}

// listSigners lists the certificates of a name that may have signed a list: those of ca_dir, and
// what was kept and has a good path to one of ca_dir now. It is for `pam-pkcs11 crl`, not for
// logins.
func (k *Keeper) listSigners(name certinfo.Name) []*certinfo.Certificate {
	k.keptOnce.Do(k.findKept)
	return append(slices.Clone(k.authorities.Named(name)), k.kept[name.Key()]...)
}

// KeptSigners lists what was kept and has a good path.
func (k *Keeper) KeptSigners() (all []*certinfo.Certificate) {
	k.keptOnce.Do(k.findKept)
	for _, certs := range k.kept {
		all = append(all, certs...)
	}
	return all
}

// findKept looks for a path from each certificate that was kept. Whether it is revoked is for
// logins to find out.
func (k *Keeper) findKept() {
	k.kept = map[string][]*certinfo.Certificate{}
	all := k.open().authorities()
	for _, c := range all {
		if k.authorities.Reaches(c, all) {
			k.kept[c.Subject.Key()] = append(k.kept[c.Subject.Key()], c)
		}
	}
}

// removeOldAuthorities removes kept certificates whose time is over.
func (u *update) removeOldAuthorities() {
	now := u.k.options.Now()
	for _, c := range u.store.authorities() {
		if now.After(c.NotAfter.Add(u.k.options.Rules.ClockSkew)) {
			if err := u.store.fs.Remove(u.store.authorityPath(c)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				u.k.options.Logger.Warn("CRL store cannot be written", "problem", err)
			}
		}
	}
}
