package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/verify/crl"
	"pam_pkcs11/verify/internal/refusal"
)

// DefaultStore is the directory of what is kept between logins.
const DefaultStore = "/var/lib/pam_pkcs11"

// What lies in the store. Only root writes it, everybody may read it. Nothing in it makes a
// certificate good but what a signature confirms; the rollback state can only forbid.
//
//	crl/HASH.crl     a CRL as it was fetched, by the hash of its address
//	                 or by that of its address and key, where the address gave one of another
//	                 key before
//	crl/HASH.json    where it came from and how to ask whether it has changed
//	crl/HASH.failed  that its address gave none lately, see failure.go
//	index/HASH.idx   the index of a CRL, here or in crl_dir, by the hash of its file's identity
//	newest/HASH      the newest CRL seen of an issuer's key and scope; this is no cache
//	ca/HASH.der      CA certificates of chains that logged in and that are not in ca_dir,
//	                 see authority.go
//	points.json      distribution points of certificates that logged in
//	ocsp/            OCSP answers, see package ocsp
//	lock, crl/HASH.lock
type store struct {
	dir    string
	fs     FS
	writes bool          // this process may keep what it fetches
	period time.Duration // after which Update runs again, 0 for logins
	noting sync.Mutex    // guards the files of newest/
	temp   tempNumber
	policy safefile.Policy
}

const (
	maxStoreRecord = 64 << 10 // octets of a small file
	maxPoints      = 1000
	listDirName    = "crl"
	indexDirName   = "index"
	newestDirName  = "newest"
	pointsName     = "points.json"
)

// openStore opens the store of a directory; nil when there is none to use. A store of another user
// is not written to.
func openStore(dir string) *store {
	if dir == "" {
		return nil
	}
	s := &store{dir: dir, fs: Disk{}, policy: safefile.Policy{MaxSize: maxStoreRecord}}
	s.writes = os.Geteuid() == 0
	// A directory that is not there yet is made by root.
	if info, err := os.Stat(dir); err == nil {
		st, ok := info.Sys().(*syscall.Stat_t)
		s.writes = ok && int(st.Uid) == os.Geteuid()
	}

	return s
}

// path is that of a file of the store.
func (s *store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// shortName makes a file name of any octets.
func shortName(of []byte) string {
	sum := sha256.Sum256(of)
	return hex.EncodeToString(sum[:16])
}

// replace puts a file in place as a whole or not at all, on the disk and not only in memory.
func (s *store) replace(path string, write func(io.Writer) error) error {
	temp, err := s.prepare(filepath.Dir(path), write)
	if err != nil {
		return err
	}
	return s.install(temp, path)
}

// prepare writes a temporary file and brings it to the disk.
func (s *store) prepare(dir string, write func(io.Writer) error) (temp string, err error) {
	if err := s.fs.Mkdir(dir); err != nil {
		return "", err
	}

	temp = s.temp.name(dir)
	f, err := s.fs.Create(temp)
	if err != nil {
		return "", err
	}

	if err = write(f); err == nil {
		err = f.Sync()
	}
	// The file's content is on the disk before its name is.
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.fs.Remove(temp) // what counts is the error above
		return "", err
	}

	return temp, nil
}

// install gives a temporary file its name. Until the directory is synced the name may be lost, but
// never half written.
func (s *store) install(temp, path string) error {
	if err := s.fs.Rename(temp, path); err != nil {
		_ = s.fs.Remove(temp)
		return err
	}
	return s.fs.SyncDir(filepath.Dir(path))
}

// readJSON reads a small file of the store.
func (s *store) readJSON(path string, into any) error {
	data, _, err := safefile.ReadFile(path, s.policy)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// writeJSON replaces a small file of the store.
func (s *store) writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.replaceBytes(path, append(data, '\n'))
}

// replaceBytes replaces a file of the store.
func (s *store) replaceBytes(path string, data []byte) error {
	return s.replace(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// newest is the newest CRL seen of a key and scope.
type newest struct {
	Number     string    `json:"number,omitempty"` // decimal; absent in lists without one
	ThisUpdate time.Time `json:"thisUpdate"`
	Issuer     string    `json:"issuer"` // for the reader
	// Since is the thisUpdate of the first list of a count that began anew (`crl accept`): none
	// before it is newer, whatever its number. The zero value is that there was no such list.
	Since time.Time `json:"since,omitzero"`
}

// scopeName names an issuer's key and the scope of its list.
func scopeName(spki []byte, h *crl.Head) string {
	// Each part has its length before it, so that no two scopes give the same octets.
	var b []byte
	for _, part := range [][]byte{spki, h.RawIssuer, h.RawPoint} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	// A delta has a number of its own count: it must not make its base look old.
	if h.DeltaBase != nil {
		b = append(b, 1)
	}
	return shortName(b)
}

// Rollback is an error when a CRL is older than one that was seen of the same key and scope
// (ErrOlder), or when that cannot be found out. With an error the CRL must prove nothing.
func (s *store) Rollback(spki []byte, h *crl.Head) error {
	if s == nil {
		return nil
	}

	path := s.path(newestDirName, scopeName(spki, h))
	var n newest
	err := s.readJSON(path, &n)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	// A note that cannot be read may be of a newer list: that is no permission.
	case err != nil:
		return fmt.Errorf("cannot be compared with those seen before: %s: %w (pam-pkcs11 crl update writes it anew)", path, err)
	case n.newerThan(h):
		return n.older(path, h)
	}
	return nil
}

// older is the error of a CRL that is older than the noted one.
func (n *newest) older(path string, h *crl.Head) error {
	return fmt.Errorf("%w: %s, as %s says. If the CA counts anew, take it: pam-pkcs11 crl accept %q", crl.ErrOlder,
		numberAndDate(n.Number, n.ThisUpdate), path, refusal.Clip(h.Issuer.RFC4514()))
}

// numberAndDate names a list in messages.
func numberAndDate(number string, at time.Time) string {
	if number == "" {
		return "of " + refusal.Stamp(at)
	}
	return "number " + number + " of " + refusal.Stamp(at)
}

// newerThan reports whether the noted list is newer. Lists with numbers are compared by these (RFC
// 5280, 5.2.3).
func (n *newest) newerThan(h *crl.Head) bool {
	// A count that began anew has lower numbers: what was issued
	// before that is old, whatever its number.
	if h.ThisUpdate.Before(n.Since) {
		return true
	}
	if number, ok := new(big.Int).SetString(n.Number, 10); ok && h.Number != nil {
		return h.Number.Cmp(number) < 0
	}
	return h.ThisUpdate.Before(n.ThisUpdate)
}

// SeenOf returns the note of a list that was seen of a CA's own key, beside one of the CA's name
// that another key signed: of the same scope, or of the whole CA. "" means that there is none.
func (s *store) SeenOf(ca *certinfo.Certificate, other *crl.Head) string {
	if s == nil {
		return ""
	}
	// The name may be encoded in two ways: as the other list has it,
	// and as the CA's certificate has it.
	for _, issuer := range [][]byte{other.RawIssuer, ca.RawSubject} {
		for _, point := range [][]byte{other.RawPoint, nil} {
			for _, delta := range []*big.Int{nil, new(big.Int)} {
				path := s.path(newestDirName, scopeName(ca.RawSPKI, &crl.Head{RawIssuer: issuer, RawPoint: point, DeltaBase: delta}))
				// A note that cannot be looked at counts as one.
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					return path
				}
			}
		}
	}
	return ""
}

// noteNewest notes a CRL as the newest, unless it is older than what is noted; a note that cannot
// be read is replaced. Several addresses of one CRL may give lists at the same time.
func (s *store) noteNewest(spki []byte, h *crl.Head) error {
	s.noting.Lock()
	defer s.noting.Unlock()

	path := s.path(newestDirName, scopeName(spki, h))
	var n newest
	if err := s.readJSON(path, &n); err == nil {
		if n.newerThan(h) {
			return n.older(path, h)
		}
		// The same list again costs no write.
		if n.ThisUpdate.Equal(h.ThisUpdate) && (h.Number == nil || n.Number == h.Number.String()) {
			return nil
		}
	}

	fresh := noteOf(h)
	fresh.Since = n.Since
	return s.writeJSON(path, fresh)
}

// noteOf is the note of a list.
func noteOf(h *crl.Head) newest {
	n := newest{ThisUpdate: h.ThisUpdate, Issuer: refusal.Clip(h.Issuer.RFC4514())}
	if h.Number != nil {
		n.Number = h.Number.String()
	}
	return n
}

// accept notes a CRL as the newest whatever was noted before.
func (s *store) accept(spki []byte, h *crl.Head) error {
	fresh := noteOf(h)
	fresh.Since = h.ThisUpdate
	return s.writeJSON(s.path(newestDirName, scopeName(spki, h)), fresh)
}

// origin is where a stored CRL came from.
type origin struct {
	URL          string    `json:"url"`
	ETag         string    `json:"etag,omitempty"`
	LastModified string    `json:"lastModified,omitempty"`
	Checked      time.Time `json:"checked"`          // when the server last confirmed it
	Signer       string    `json:"signer,omitempty"` // hash of the key that signed it; absent in what older versions kept
	Apart        bool      `json:"apart,omitempty"`  // its file is named by address and key
	// Issuer is the hash of the name of the list's issuer, absent in what older versions kept;
	// Indirect that the list may cover certificates of any issuer.
	Issuer   string `json:"issuer,omitempty"`
	Indirect bool   `json:"indirect,omitempty"`
	// Due is when Update, which asked at Checked, asks again. Until then no login does. Zero where
	// a login asked.
	Due time.Time `json:"due,omitzero"`
}

// setIssuer notes whose list it is.
func (o *origin) setIssuer(h *crl.Head) {
	o.Issuer = issuerName(h.Issuer)
	o.Indirect = h.Point != nil && h.Point.Indirect
}

// issuerName is the digest of a name, in whatever encoding.
func issuerName(n certinfo.Name) string { return shortName([]byte(n.Key())) }

// urlPath is a file of an address.
func (s *store) urlPath(url, suffix string) string {
	return s.path(listDirName, shortName([]byte(url))+suffix)
}

// origin gives what is known about a stored CRL; the zero value when there is nothing that can be
// used.
func (s *store) origin(url string) origin {
	var o origin
	if err := s.readJSON(s.urlPath(url, ".json"), &o); err != nil || o.URL != url {
		return origin{}
	}
	return o
}

// confirm notes that the server still has the CRL that is stored.
func (s *store) confirm(o origin, now time.Time) error {
	o.Checked = now
	o.Due = time.Time{}
	if s.period > 0 {
		o.Due = now.Add(s.period)
	}
	return s.writeJSON(s.urlPath(o.URL, ".json"), o)
}

// keep puts a CRL, whose signature was checked, into the place of an older one. temp is the file it
// was written to. The rollback state comes first: after a crash between the two nothing older is
// accepted.
func (s *store) keep(temp, url string, v fetch.Validators, spki []byte, h *crl.Head, now time.Time) error {
	if err := s.noteNewest(spki, h); err != nil {
		_ = s.fs.Remove(temp)
		return err
	}

	before := s.origin(url)
	o := origin{
		URL:          url,
		ETag:         v.ETag,
		LastModified: v.LastModified,
		Signer:       shortName(spki),
	}
	o.setIssuer(h)

	// Where an address has given lists of several keys, each key has a file of its own.
	sameSigner := before.Signer == o.Signer
	o.Apart = before.Apart && sameSigner || before.Signer != "" && !sameSigner
	if err := s.install(temp, s.listPath(o, url)); err != nil {
		return err
	}
	return s.confirm(o, now)
}

// listPath is the file of the list that an address gave last. Where that is of another key than the
// one before, it lies beside that one and does not replace it: what the other list has stays
// revoked.
func (s *store) listPath(o origin, url string) string {
	if o.Apart {
		return s.urlPath(url+" "+o.Signer, ".crl")
	}
	return s.urlPath(url, ".crl")
}

// lock takes the lock of an address, or of the whole store for "".
func (s *store) lock(url string) (unlock func(), err error) {
	dir := s.dir
	name := s.path("lock")
	if url != "" {
		dir = s.path(listDirName)
		name = s.urlPath(url, ".lock")
	}

	if err := s.fs.Mkdir(dir); err != nil {
		return nil, err
	}
	return lockFile(name)
}

// indexName names the index of a CRL by the state of the file that it is in.
func indexName(id crl.FileID, at int64) string {
	return shortName(id.Place(at)) + ".idx"
}

// index opens the index of a CRL; nil when there is none that can be used. A file that others than
// root could write, or that belongs to another CRL, is not used.
func (s *store) index(id crl.FileID, at int64) (*crl.Index, error) {
	if s == nil {
		return nil, nil
	}

	f, _, err := safefile.Open(s.path(indexDirName, indexName(id, at)), safefile.Policy{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	info, err := f.Stat()
	var x *crl.Index
	if err == nil {
		x, err = crl.OpenIndex(f, info.Size())
	}
	// The index itself has to name this CRL: its file may be a copy of another's.
	if err == nil && !x.IsOf(id, at) {
		err = fmt.Errorf("%w: it belongs to another CRL", crl.ErrIndex)
	}

	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return x, nil
}

// points lists the distribution points that were recorded.
func (s *store) points() []string {
	var urls []string
	if s == nil {
		return nil
	}

	policy := s.policy
	policy.MaxSize = 4 << 20

	data, _, err := safefile.ReadFile(s.path(pointsName), policy)
	if err != nil || json.Unmarshal(data, &urls) != nil {
		return nil
	}
	return urls
}

// record adds distribution points; those that are known cost no write.
func (s *store) record(urls []string) error {
	// Nearly every login records the same points again: the lock is for new ones only.
	known := map[string]bool{}
	for _, u := range s.points() {
		known[u] = true
	}

	fresh := false
	for _, u := range urls {
		fresh = fresh || !known[u]
	}
	if !fresh {
		return nil
	}

	// Where another login holds the lock, that one records, and the next login these.
	unlock, err := s.lock("")
	if unlock == nil {
		return err
	}
	defer unlock()

	// Read anew under the lock: another process may have added some.
	all := s.points()
	for _, u := range urls {
		if len(all) < maxPoints && !contains(all, u) {
			all = append(all, u)
		}
	}
	return s.writeJSON(s.path(pointsName), all)
}

// contains reports whether a text is in a list.
func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
