package store

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/verify/crl"
)

// nobody is a ca_dir without certificates.
type nobody struct{}

func (nobody) All() []*certinfo.Certificate                                { return nil }
func (nobody) Named(certinfo.Name) []*certinfo.Certificate                 { return nil }
func (nobody) Has(*certinfo.Certificate) bool                              { return false }
func (nobody) Reaches(*certinfo.Certificate, []*certinfo.Certificate) bool { return false }

// TestUpdateAsksFailedLast: more mute addresses than are asked at once stand first, and the time is
// short. What failed stands behind what has never been asked at the next run.
func TestUpdateAsksFailedLast(t *testing.T) {
	store := openStore(t.TempDir())
	k := New(Options{
		StoreDir: store.dir,
		URLs:     []string{"http://a/1", "http://a/2", "http://a/3"},
		Logger:   slog.New(slog.DiscardHandler),
	}, nobody{}, &crl.Wanted{})
	u := &update{k: k, store: store, fetcher: newFetcher(k, store)}
	if err := store.fs.Mkdir(store.path(listDirName)); err != nil {
		t.Fatal(err)
	}
	order := func() (text string) {
		all := u.addresses()
		u.failedLast(all)
		for _, a := range all {
			text += a.url[len(a.url)-1:]
		}
		return text
	}
	now := time.Now()
	for i, step := range []struct {
		fails string
		want  string
	}{{"", "123"}, {"1", "231"}, {"2", "312"}, {"1", "321"}} {
		k.options.Now = func() time.Time { return now.Add(time.Duration(i) * time.Minute) }
		if step.fails != "" {
			u.fetcher.remember(t.Context(), "http://a/"+step.fails, errors.New("no"))
		}
		if got := order(); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	u.fetcher.remember(t.Context(), "http://a/1", nil)
	if got := order(); got != "132" {
		t.Errorf("after a success: %s", got)
	}
	// That somebody ended the run says nothing about a server.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	u.fetcher.remember(ended, "http://a/3", errors.New("no"))
	if got := order(); got != "132" {
		t.Errorf("after the end of the run: %s", got)
	}
}
