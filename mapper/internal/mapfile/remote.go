package mapfile

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/mapper/internal/mapping"
)

// remoteMap is a mapfile that a server has. It is fetched once in the life of its chain, that is,
// at each login. A copy from before is used only when the server says that it is still the same:
// where a server does not answer nobody is named, since its list may have lost somebody meanwhile.
type remoteMap struct {
	address string
	client  *fetch.Client
	store   string // "" keeps no copy

	once sync.Once
	file *os.File // what was fetched
	from int64    // offset of the text in it
	err  error
}

// Limits of a remote mapfile.
const (
	MaxRemoteMap   = 64 << 20         // octets
	remoteDeadline = 20 * time.Second // for fetching it, where the caller has no earlier one
	maxCopyHead    = 16 << 10
)

// newRemoteMap refuses addresses whose content anybody on the way could write, unless
// insecure_mapfile allows them.
func newRemoteMap(address string, insecure bool, o mapping.Options) (*remoteMap, error) {
	u, _, found := strings.Cut(address, ":")
	switch scheme := strings.ToLower(u); {
	case !found:
		return nil, fmt.Errorf("mapfile %q is not a URL", address)
	case scheme == "https", scheme == "ldaps", scheme == "ldapi":
	case (scheme == "http" || scheme == "ldap") && insecure:
	case scheme == "http" || scheme == "ldap":
		return nil, fmt.Errorf("mapfile %s: anybody on the way could name users (https or ldaps; insecure_mapfile = true obeys it)", address)
	default:
		return nil, fmt.Errorf("mapfile %s: expected file, https, ldaps or ldapi", address)
	}

	// The address is the administrator's: it may well be of this machine.
	r := &remoteMap{address: address}
	r.client = &fetch.Client{AllowLocal: true, MaxBytes: MaxRemoteMap}
	if o.Fetch != nil {
		client := *o.Fetch
		client.AllowLocal = true
		client.MaxBytes = MaxRemoteMap
		r.client = &client
	}

	// A login that runs as its user has no directory that only root can write: it keeps nothing.
	if os.Geteuid() == 0 && o.StoreDir != "" {
		r.store = filepath.Join(o.StoreDir, "mapfiles")
	}
	return r, nil
}

// open returns the text from its beginning. An error is an ErrUnavailable.
func (r *remoteMap) open(ctx context.Context) (io.ReadCloser, error) {
	// All questions of a login share one fetch.
	r.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, remoteDeadline)
		defer cancel()
		r.err = r.fetch(ctx)
	})
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", mapping.ErrUnavailable, r.err)
	}
	return io.NopCloser(io.NewSectionReader(r.file, r.from, MaxRemoteMap)), nil
}

// fetch asks the server for the text, or whether the copy is still the same.
func (r *remoteMap) fetch(ctx context.Context) error {
	var head copyHead
	kept, from := r.kept(&head)

	answer, err := r.client.Get(ctx, r.address, head.Validators)
	if err != nil {
		return err
	}

	if answer.NotModified {
		if kept == nil {
			return fmt.Errorf("%s: says that a copy is good that is not there", r.address)
		}
		r.file, r.from = kept, from
		return nil
	}

	defer answer.Body.Close()
	// The copy is open until the server has answered: a login beside this one may replace it.
	if kept != nil {
		kept.Close()
	}
	return r.keep(answer)
}

// copyHead is the first line of a copy, in JSON; the text follows.
type copyHead struct {
	Address    string
	Validators fetch.Validators
}

// copyName returns the path of the copy of this address.
func (r *remoteMap) copyName() string {
	sum := sha256.Sum256([]byte(r.address))
	return filepath.Join(r.store, hex.EncodeToString(sum[:])+".map")
}

// kept opens the copy. Where it cannot be used, or its server gave nothing to ask by, it returns
// nil.
func (r *remoteMap) kept(head *copyHead) (*os.File, int64) {
	if r.store == "" {
		return nil, 0
	}

	f, _, err := safefile.Open(r.copyName(), safefile.Policy{MaxSize: MaxRemoteMap + maxCopyHead})
	if err != nil {
		return nil, 0
	}

	line, err := bufio.NewReaderSize(io.LimitReader(f, maxCopyHead), maxCopyHead).ReadSlice('\n')

	// Two addresses never share a name, but the file may be an old one or half of one.
	isBroken := err != nil || json.Unmarshal(line, head) != nil
	if isBroken || head.Address != r.address || head.Validators == (fetch.Validators{}) {
		*head = copyHead{}
		f.Close()
		return nil, 0
	}
	return f, int64(len(line))
}

// keep writes the answer to a file, which gets its name only when it is complete; without a store
// it never gets one.
func (r *remoteMap) keep(answer *fetch.Answer) error {
	if r.store != "" {
		if err := os.MkdirAll(r.store, 0o700); err != nil {
			return err
		}
	}

	// Without a store it is in the system's directory for such files.
	f, err := os.CreateTemp(r.store, "mapfile-*")
	if err != nil {
		return err
	}

	err = r.write(f, answer)
	// Without validators the next login could not ask about the copy. The file without a name is
	// read all the same, and is gone when it is closed.
	if err == nil && r.store != "" && answer.Validators != (fetch.Validators{}) {
		err = os.Rename(f.Name(), r.copyName())
	} else {
		err = errors.Join(err, os.Remove(f.Name()))
	}

	if err != nil {
		f.Close()
		return err
	}
	r.file = f
	return nil
}

// write writes the head and the text, and sets from.
func (r *remoteMap) write(f *os.File, answer *fetch.Answer) error {
	head, err := json.Marshal(copyHead{r.address, answer.Validators})
	if err != nil || len(head) >= maxCopyHead {
		return fmt.Errorf("%s: what the server says of its version is too long", r.address)
	}

	n, err := f.Write(append(head, '\n'))
	if err != nil {
		return err
	}
	r.from = int64(n)

	last := &lastOctet{w: f}
	if _, err := io.Copy(last, answer.Body); err != nil {
		return fmt.Errorf("%s: %w", r.address, err)
	}

	// Without a length, the end of a connection that broke looks like that of the text: the last
	// line might be cut, and its login be another one.
	if answer.Size < 0 && last.written && last.octet != '\n' {
		return fmt.Errorf("%s: does not end with a whole line, and the server did not say how long it is", r.address)
	}
	return nil
}

// lastOctet is a writer that remembers the last octet.
type lastOctet struct {
	w       io.Writer
	octet   byte
	written bool
}

// Write implements io.Writer.
func (l *lastOctet) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.octet = p[len(p)-1]
		l.written = true
	}
	return l.w.Write(p)
}
