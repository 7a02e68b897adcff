package fetch

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestGuardHoldsThroughAProxy: the proxy is not asked for this machine, its link or itself, in whatever spelling.
func TestGuardHoldsThroughAProxy(t *testing.T) {
	var asked atomic.Int32
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if strings.HasPrefix(r.URL.Host, "redirects.example") {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		}
	})
	for _, address := range []string{
		"http://127.0.0.1/", "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://localhost/",
		"http://LOCALHOST./", "http://x.localhost/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[fe80::1%25eth0]/", "http://0.0.0.0/", "http://[::]/", "http://169.254.169.254/", "http://224.0.0.1/", "http://./",
	} {
		for _, c := range []*Client{{Proxy: proxy}, {}} {
			if _, err := c.Get(deadline(t, 5*time.Second), address, Validators{}); !errors.Is(err, ErrAddress) {
				t.Errorf("%s: got %v", address, err)
			}
			if _, err := c.Post(deadline(t, 5*time.Second), address, "x/y", nil); !errors.Is(err, ErrAddress) {
				t.Errorf("POST %s: got %v", address, err)
			}
		}
	}
	if asked.Load() != 0 {
		t.Errorf("the proxy was asked %d times", asked.Load())
	}
	if _, err := (&Client{Proxy: proxy}).Get(deadline(t, 5*time.Second), "http://redirects.example/", Validators{}); !errors.Is(err, ErrAddress) || asked.Load() != 1 {
		t.Errorf("redirect: got %v, asked %d times", err, asked.Load())
	}
	if _, err := (&Client{Proxy: proxy}).Get(deadline(t, 5*time.Second), "http://crl.example/", Validators{}); err != nil {
		t.Errorf("another address: %v", err)
	}
}
