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

// What lies in the store. Only root writes it, everybody may read it: who can log in decides nothing by it but what a
// signature confirms, except the rollback state, which can only forbid.
//
//	crl/HASH.crl     a CRL as it was fetched, by the hash of its address
//	                 or by that of its address and key, where the address gave one of another key before
//	crl/HASH.json    where it came from and how to ask whether it has changed
//	crl/HASH.failed  that its address gave none lately, see failure.go
//	index/HASH.idx   the index of a CRL, here or in crl_dir, by the hash of its file's identity
//	newest/HASH      the newest CRL seen of an issuer's key and scope; this is no cache
//	ca/HASH.der      CA certificates of chains that logged in and that are not in ca_dir, see authority.go
//	points.json      distribution points of certificates that logged in
//	ocsp/            OCSP answers, see the room of ocsp
//	lock, crl/HASH.lock
type store struct {
	dir    string
	fs     FS
	writes bool          // this process may keep what it fetches
	period time.Duration // after which Update runs again, 0 for logins
	noting sync.Mutex    // over newest/
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

// openStore is nil when there is no directory to use. A store of another user is not written to.
func openStore(dir string) *store {
	if dir == "" {
		return nil
	}
	s := &store{dir: dir, fs: Disk{}, policy: safefile.Policy{MaxSize: maxStoreRecord}}
	s.writes = os.Geteuid() == 0
	if info, err := os.Stat(dir); err == nil {
		st, ok := info.Sys().(*syscall.Stat_t)
		s.writes = ok && int(st.Uid) == os.Geteuid()
	}
	return s
}

func (s *store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

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
	if err = errors.Join(err, f.Close()); err != nil {
		_ = s.fs.Remove(temp) // what counts is the error above
		return "", err
	}
	return temp, nil
}

func (s *store) install(temp, path string) error {
	if err := s.fs.Rename(temp, path); err != nil {
		_ = s.fs.Remove(temp)
		return err
	}
	return s.fs.SyncDir(filepath.Dir(path))
}

func (s *store) readJSON(path string, into any) error {
	data, _, err := safefile.ReadFile(path, s.policy)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func (s *store) writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.replaceBytes(path, append(data, '\n'))
}

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
	// Since is the thisUpdate of the first list of a count that began anew (`crl accept`): none before it is newer, whatever
	// its number. The zero value is that there was no such list.
	Since time.Time `json:"since,omitzero"`
}

// scopeName names an issuer's key and the scope of its list.
func scopeName(spki []byte, h *crl.Head) string {
	var b []byte
	for _, part := range [][]byte{spki, h.RawIssuer, h.RawPoint} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	if h.DeltaBase != nil {
		b = append(b, 1)
	}
	return shortName(b)
}

// Rollback says that a CRL is older than one that was seen of the same key and scope (ErrOlder), or that nobody knows.
// With an error the CRL must prove nothing.
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

func numberAndDate(number string, at time.Time) string {
	if number == "" {
		return "of " + refusal.Stamp(at)
	}
	return "number " + number + " of " + refusal.Stamp(at)
}

func (n *newest) newerThan(h *crl.Head) bool {
	if h.ThisUpdate.Before(n.Since) {
		return true
	}
	if number, ok := new(big.Int).SetString(n.Number, 10); ok && h.Number != nil {
		return h.Number.Cmp(number) < 0
	}
	return h.ThisUpdate.Before(n.ThisUpdate)
}

// SeenOf names the note of a list that was seen of a CA's own key, beside one of the CA's name that another key signed:
// of the same scope, or of the whole CA. "" is that there is none.
func (s *store) SeenOf(ca *certinfo.Certificate, other *crl.Head) string {
	if s == nil {
		return ""
	}
	for _, issuer := range [][]byte{other.RawIssuer, ca.RawSubject} {
		for _, point := range [][]byte{other.RawPoint, nil} {
			for _, delta := range []*big.Int{nil, new(big.Int)} {
				path := s.path(newestDirName, scopeName(ca.RawSPKI, &crl.Head{RawIssuer: issuer, RawPoint: point, DeltaBase: delta}))
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					return path
				}
			}
		}
	}
	return ""
}

// saw notes a CRL as the newest, unless it is older than what is noted; a note that cannot be read is replaced. Several
// addresses of one CRL may give lists at the same time.
func (s *store) saw(spki []byte, h *crl.Head) error {
	s.noting.Lock()
	defer s.noting.Unlock()
	path := s.path(newestDirName, scopeName(spki, h))
	var n newest
	if err := s.readJSON(path, &n); err == nil {
		if n.newerThan(h) {
			return n.older(path, h)
		}
		if n.ThisUpdate.Equal(h.ThisUpdate) && (h.Number == nil || n.Number == h.Number.String()) {
			return nil
		}
	}
	fresh := noteOf(h)
	fresh.Since = n.Since
	return s.writeJSON(path, fresh)
}

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
	// Issuer is the hash of the name of the list's issuer, absent in what older versions kept; Indirect
	// that the list may speak of certificates of any issuer.
	Issuer   string `json:"issuer,omitempty"`
	Indirect bool   `json:"indirect,omitempty"`
	// Due is when Update, which asked at Checked, asks again. Until then no login does. Zero where
	// a login asked.
	Due time.Time `json:"due,omitzero"`
}

// of notes whose list it is.
func (o *origin) of(h *crl.Head) {
	o.Issuer, o.Indirect = issuerName(h.Issuer), h.Point != nil && h.Point.Indirect
}

func issuerName(n certinfo.Name) string { return shortName([]byte(n.Key())) }

func (s *store) urlPath(url, suffix string) string {
	return s.path(listDirName, shortName([]byte(url))+suffix)
}

// origin gives what is known about a stored CRL; the zero value when there is nothing that can be used.
func (s *store) origin(url string) origin {
	var o origin
	if err := s.readJSON(s.urlPath(url, ".json"), &o); err != nil || o.URL != url {
		return origin{}
	}
	return o
}

// confirm notes that the server still has the CRL that is stored.
func (s *store) confirm(o origin, now time.Time) error {
	o.Checked, o.Due = now, time.Time{}
	if s.period > 0 {
		o.Due = now.Add(s.period)
	}
	return s.writeJSON(s.urlPath(o.URL, ".json"), o)
}

// keep puts a CRL, whose signature was checked, into the place of an older one. temp is the file it was written to. The
// Rollback state comes first: after a crash between the two nothing older is believed.
func (s *store) keep(temp, url string, v fetch.Validators, spki []byte, h *crl.Head, now time.Time) error {
	if err := s.saw(spki, h); err != nil {
		_ = s.fs.Remove(temp)
		return err
	}
	before := s.origin(url)
	o := origin{URL: url, ETag: v.ETag, LastModified: v.LastModified, Signer: shortName(spki)}
	o.of(h)
	o.Apart = before.Apart && before.Signer == o.Signer || before.Signer != "" && before.Signer != o.Signer
	if err := s.install(temp, s.listPath(o, url)); err != nil {
		return err
	}
	return s.confirm(o, now)
}

// listPath is the file of the list that an address gave last. Where that is of another key than the one before, it is
// beside that one and not in its place: what the other list has stays revoked.
func (s *store) listPath(o origin, url string) string {
	if o.Apart {
		return s.urlPath(url+" "+o.Signer, ".crl")
	}
	return s.urlPath(url, ".crl")
}

// lock takes the lock of an address, or of the whole store for "".
func (s *store) lock(url string) (unlock func(), err error) {
	dir, name := s.dir, s.path("lock")
	if url != "" {
		dir, name = s.path(listDirName), s.urlPath(url, ".lock")
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

// index opens the index of a CRL; nil when there is none that can be used. A file that others than root could write,
// or that belongs to another CRL, is not used.
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
	unlock, err := s.lock("")
	if unlock == nil {
		return err // another login records; the next one will
	}
	defer unlock()
	all := s.points()
	for _, u := range urls {
		if len(all) < maxPoints && !contains(all, u) {
			all = append(all, u)
		}
	}
	return s.writeJSON(s.path(pointsName), all)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
