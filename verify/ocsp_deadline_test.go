package verify_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/nettest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// Servers that misbehave, and the deadline.

// deadURL is an address at which nobody listens.
func deadURL(t testing.TB) string {
	t.Helper()
	return "http://" + nettest.Closed(t) + "/ocsp"
}

// muteURL is an address that takes connections and says nothing.
func muteURL(t testing.TB) string {
	t.Helper()
	return "http://" + nettest.Mute(t) + "/ocsp"
}

// misbehaving are servers that do all but answer. late: the verdict comes at the deadline, not before.
func misbehaving(t *testing.T) []struct {
	name string
	url  string
	late bool
} {
	drip := serving(t, func(w http.ResponseWriter, r *http.Request, _ testca.Question) {
		for r.Context().Err() == nil {
			fmt.Fprint(w, "0")
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	flood := func(size int, announce bool) *ocspServer {
		return serving(t, func(w http.ResponseWriter, _ *http.Request, _ testca.Question) {
			if announce {
				w.Header().Set("Content-Length", fmt.Sprint(size))
			}
			block := make([]byte, 1<<16)
			for n := 0; n < size; n += len(block) {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		})
	}
	body := func(code int, header, value, text string) *ocspServer {
		return serving(t, func(w http.ResponseWriter, _ *http.Request, _ testca.Question) {
			w.Header().Set(header, value)
			w.WriteHeader(code)
			fmt.Fprint(w, text)
		})
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 32<<20))
	_ = z.Close()
	return []struct {
		name string
		url  string
		late bool
	}{
		{"mute", muteURL(t), true},
		{"a byte at a time", drip.URL, true},
		{"dead", deadURL(t), false},
		{"redirect loop", loopURL(t), false},
		{"redirect to a file", body(302, "Location", "file:///etc/passwd", "").URL, false},
		{"404 with a body", body(404, "X", "y", "not here").URL, false},
		{"500", body(500, "X", "y", "").URL, false},
		{"truncated", body(200, "Content-Length", "500", "0").URL, false},
		{"gzip bomb", body(200, "Content-Encoding", "gzip", bomb.String()).URL, false},
		{"10 MB announced", flood(10<<20, true).URL, false},
		{"10 MB", flood(10<<20, false).URL, false},
		{"endless", flood(1<<40, false).URL, false},
		{"no HTTP", shoutURL(t), false},
		{"endless header", headerURL(t), false},
	}
}

func loopURL(t *testing.T) string {
	s := http.NewServeMux()
	s.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + l.Addr().String() + "/ocsp"
}

// shoutURL is a server that speaks another protocol, headerURL one whose header has no end.
func shoutURL(t *testing.T) string { return rawServer(t, "SSH-2.0-OpenSSH_9.2\r\n", false) }

func headerURL(t *testing.T) string {
	return rawServer(t, "HTTP/1.1 200 OK\r\nX-Filler: "+strings.Repeat("x", 4096)+"\r\n", true)
}

func rawServer(t *testing.T, text string, forever bool) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					if _, err := c.Write([]byte(text)); err != nil || !forever {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/ocsp"
}

// TestOCSPDeadline: whatever servers do, the verdict is there at the deadline. It comes verdictReserve before it, and
// what follows takes a few milliseconds, so on an idle machine it is within 100 ms; a machine busy with other tests gets more.
func TestOCSPDeadline(t *testing.T) {
	root := testca.NewRoot("Root")
	const timeout = 700 * time.Millisecond
	for _, s := range misbehaving(t) {
		for _, soft := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/soft=%v", s.name, soft), func(t *testing.T) {
				t.Parallel()
				leaf := parsed(t, root.Leaf("Alice", testca.InfoAccess([]string{s.url}, nil)))
				v := withOCSP(t, verify.Options{Soft: soft}, &root.Cert)
				started, allowed := time.Now(), slowtest.Allowance()
				_, err := v.Check(within(t, timeout), leaf, nil)
				took := time.Since(started)
				if want := map[bool]verify.Reason{false: verify.ReasonRevocationUnknown, true: ""}[soft]; verify.ReasonOf(err) != want || (err == nil) != soft {
					t.Errorf("got %v", err)
				}
				if took > timeout+time.Second+allowed() || s.late && took < timeout-100*time.Millisecond {
					t.Errorf("the verdict came after %v, the deadline was %v", took, timeout)
				}
			})
		}
	}
}

// TestMuteResponderLeavesTimeForCRLs: with a CRL word, responders have half of the time.
func TestMuteResponderLeavesTimeForCRLs(t *testing.T) {
	root := testca.NewRoot("Root")
	v := withOCSP(t, verify.Options{}, &root.Cert)
	withCRLs(t, v, root.CRL(testca.CRL{}))
	leaf := parsed(t, root.Leaf("Alice", testca.InfoAccess([]string{muteURL(t)}, nil)))
	started, allowed := time.Now(), slowtest.Allowance()
	if _, err := v.Check(within(t, 2*time.Second), leaf, nil); err != nil {
		t.Error(err)
	}
	if took := time.Since(started); took > 1700*time.Millisecond+allowed() {
		t.Errorf("took %v", took)
	}
}
