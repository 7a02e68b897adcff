package fetch

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/nettest"
	"pam_pkcs11/internal/slowtest"
)

func deadline(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func serve(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestGet(t *testing.T) {
	local := &Client{AllowLocal: true, MaxBytes: 100}
	cases := []struct {
		name    string
		client  *Client
		handler http.HandlerFunc
		want    string
		fails   error // errors.Is, or any error when errAny
	}{
		{"a body", local, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "crl") }, "crl", nil},
		{"a body of exactly the limit", local, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 100)) }, strings.Repeat("x", 100), nil},
		{"announced too large", local, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 101)) }, "", ErrTooLarge},
		{"endless", local, endless, "", ErrTooLarge},
		{"404 with a body", local, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "crl")
		}, "", errAny},
		{"gzip bomb", local, gzipBomb, "", errAny},
		{"cut short", local, cut, "", io.ErrUnexpectedEOF},
		{"loopback is not for certificates", &Client{}, func(w http.ResponseWriter, _ *http.Request) {}, "", ErrAddress},
		{"redirect loop", local, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, "", errAny},
		{"redirect to a file", local, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		}, "", errAny},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, err := c.client.Get(deadline(t, 5*time.Second), serve(t, c.handler), Validators{})
			var body []byte
			if err == nil {
				body, err = ReadAll(a)
			}
			switch {
			case c.fails == nil && (err != nil || string(body) != c.want):
				t.Fatalf("got %q, %v", body, err)
			case c.fails == errAny && err == nil:
				t.Fatalf("got %q and no error", body)
			case c.fails != nil && c.fails != errAny && !errors.Is(err, c.fails):
				t.Fatalf("got %v, want %v", err, c.fails)
			}
		})
	}
}

var errAny = errors.New("any error")

func endless(w http.ResponseWriter, r *http.Request) {
	w.(http.Flusher).Flush()
	for r.Context().Err() == nil {
		if _, err := io.WriteString(w, strings.Repeat("x", 64)); err != nil {
			return
		}
	}
}

func gzipBomb(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	z.Write(make([]byte, 1<<20))
	z.Close()
}

func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "50")
	io.WriteString(w, "short")
}

func TestDeadlineHoldsAgainstSlowServers(t *testing.T) {
	mute := nettest.Mute(t)
	drip := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	for name, address := range map[string]string{"mute": "http://" + mute, "one byte at a time": drip, "mute ldap": "ldap://" + mute + "/cn=x?certificateRevocationList"} {
		t.Run(name, func(t *testing.T) {
			started, allowed := time.Now(), slowtest.Allowance()
			a, err := (&Client{AllowLocal: true}).Get(deadline(t, 300*time.Millisecond), address, Validators{})
			if err == nil {
				_, err = ReadAll(a)
			}
			if err == nil {
				t.Fatal("no error")
			}
			if took := time.Since(started); took > time.Second+allowed() {
				t.Errorf("took %s", took)
			}
		})
	}
}

func TestConditionalRequest(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, "new")
	})
	c := &Client{AllowLocal: true}
	first, err := c.Get(deadline(t, 5*time.Second), url, Validators{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAll(first); err != nil {
		t.Fatal(err)
	}
	second, err := c.Get(deadline(t, 5*time.Second), url, first.Validators)
	if err != nil || !second.NotModified {
		t.Fatalf("got %+v, %v", second, err)
	}
}

func TestAddressesRefused(t *testing.T) {
	for _, address := range []string{
		"", "file:///etc/passwd", "ftp://host/x", "gopher://host/", "http://", "http://user:pw@host/", "://", "scp://h/x",
		"http://" + strings.Repeat("a", 5000), "http://127.0.0.1:1/", "http://[::1]:1/", "http://169.254.169.254/", "http://[fe80::1]/", "http://0.0.0.0:1/", "ldap://127.0.0.1/x?y",
	} {
		if _, err := (&Client{}).Get(deadline(t, 5*time.Second), address, Validators{}); !errors.Is(err, ErrAddress) {
			t.Errorf("%.60q: got %v", address, err)
		}
	}
}

func TestEnvironmentProxyIsIgnored(t *testing.T) {
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "direct") })
	a, err := (&Client{AllowLocal: true}).Get(deadline(t, 5*time.Second), url, Validators{})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := ReadAll(a); string(body) != "direct" {
		t.Fatalf("got %q, %v", body, err)
	}
}

func TestConfiguredProxyIsUsed(t *testing.T) {
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "via proxy for ", r.URL.Host) })
	a, err := (&Client{Proxy: proxy}).Get(deadline(t, 5*time.Second), "http://crl.example/x", Validators{})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := ReadAll(a); string(body) != "via proxy for crl.example" {
		t.Fatalf("got %q, %v", body, err)
	}
}

func TestFilePath(t *testing.T) {
	for in, want := range map[string]string{"/etc/x": "/etc/x", "file:///etc/x": "/etc/x", "file:/etc/x": "/etc/x", "file://localhost/a%20b": "/a b"} {
		if got, ok, err := FilePath(in); got != want || !ok || err != nil {
			t.Errorf("%q: got %q %v %v", in, got, ok, err)
		}
	}
	for _, in := range []string{"file://host/x", "file:x", "file:///a%00b", "file:///%zz"} {
		if _, ok, err := FilePath(in); !ok || err == nil {
			t.Errorf("%q: no error", in)
		}
	}
	if _, ok, _ := FilePath("https://x/"); ok {
		t.Error("https is no file")
	}
}

// Behind a proxy the address is not connected to by us: what is plainly local is refused all the same.
func TestLocalAddressesBehindAProxy(t *testing.T) {
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host == "redirect.example" {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
			return
		}
		io.WriteString(w, "reached "+r.URL.Host)
	})
	for _, address := range []string{"http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/", "http://LOCALHOST./x", "http://a.localhost/x", "http://redirect.example/"} {
		if _, err := (&Client{Proxy: proxy}).Get(deadline(t, 5*time.Second), address, Validators{}); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := (&Client{Proxy: proxy, AllowLocal: true}).Get(deadline(t, 5*time.Second), "http://127.0.0.1/", Validators{}); err != nil {
		t.Error(err)
	}
}
