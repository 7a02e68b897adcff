package fetch

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/fetch/fetchtest"
	"pam_pkcs11/internal/slowtest"
)

// started returns a server of fetchtest that ends with the test.
func started(t *testing.T) func(s *fetchtest.Server, err error) *fetchtest.Server {
	return func(s *fetchtest.Server, err error) *fetchtest.Server {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
}

// sixOnly is an HTTP server on ::1 alone. Without IPv6 on this machine there is none: then what can be seen is only
// that its address is chosen, and have is false.
func sixOnly(t *testing.T) (port string, have bool) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Logf("THIS MACHINE HAS NO IPv6 (%v): only the choice of the address is tested", err)
		return "1", false
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "from "+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
	})}}
	s.Start()
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, true
}

// TestHostWithIPv6Only: a name with an AAAA record alone, one whose A record leads to nobody, and an address as such.
func TestHostWithIPv6Only(t *testing.T) {
	port, have := sixOnly(t)
	six, four := netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")
	names := started(t)(fetchtest.NameServer(map[string][]netip.Addr{
		"six.example": {six}, "both.example": {four, six}, "public.example": {netip.MustParseAddr("fe80::1")}, "mapped.example": {netip.MustParseAddr("::ffff:127.0.0.1")}, "none.example": {},
	}))
	for _, host := range []string{"six.example", "both.example", "[::1]"} {
		a, err := (&Client{AllowLocal: true, Resolver: names.Resolver()}).Get(deadline(t, 5*time.Second), "http://"+host+":"+port+"/", Validators{})
		if !have {
			if err == nil || !strings.Contains(err.Error(), "[::1]:1") && host != "both.example" {
				t.Errorf("%s: %v", host, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		if body, err := ReadAll(a); string(body) != "from [::1]:"+port {
			t.Errorf("%s: %q, %v", host, body, err)
		}
	}
	for _, host := range []string{"six.example", "both.example", "public.example", "mapped.example"} {
		for _, scheme := range []string{"http", "https", "ldap", "ldaps"} {
			_, err := (&Client{Resolver: names.Resolver()}).Get(deadline(t, 5*time.Second), scheme+"://"+host+":"+port+"/x?y", Validators{})
			if !errors.Is(err, ErrAddress) {
				t.Errorf("%s://%s: a name that leads to this machine or its link: %v", scheme, host, err)
			}
		}
	}
	for _, host := range []string{"none.example", "unknown.example"} {
		if _, err := (&Client{Resolver: names.Resolver()}).Get(deadline(t, 5*time.Second), "http://"+host+"/", Validators{}); err == nil || !strings.Contains(err.Error(), "no such host") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestNameServerHangs: a name server that never answers costs the time that there is, not its own time-outs.
func TestNameServerHangs(t *testing.T) {
	mute := started(t)(fetchtest.NameServer(nil)).Resolver()
	for _, address := range []string{"http://crl.example/x", "https://crl.example/x", "ldap://crl.example/cn=x?certificateRevocationList", "ldaps://crl.example/cn=x?certificateRevocationList"} {
		began, allowed := time.Now(), slowtest.Allowance()
		_, err := (&Client{Resolver: mute}).Get(deadline(t, 300*time.Millisecond), address, Validators{})
		if took := time.Since(began); err == nil || took > 2*time.Second+allowed() || took < 250*time.Millisecond {
			t.Errorf("%s: %v after %v", address, err, took)
		}
	}
	began, allowed := time.Now(), slowtest.Allowance()
	_, err := (&Client{Resolver: mute, Proxy: "http://proxy.example:3128"}).Get(deadline(t, 300*time.Millisecond), "http://crl.example/x", Validators{})
	if took := time.Since(began); err == nil || took > 2*time.Second+allowed() {
		t.Errorf("of the proxy: %v after %v", err, took)
	}
	if _, err := (&Client{Resolver: mute}).Post(deadline(t, 300*time.Millisecond), "http://ocsp.example/", "x/y", nil); err == nil {
		t.Error("POST: no error")
	}
}
