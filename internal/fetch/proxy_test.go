package fetch

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestDirect(t *testing.T) {
	c := &Client{NoProxy: []string{"crl.example.org", ".Corp.example", "10.1.0.0/16", "192.0.2.7", "fd00::/8", "::ffff:198.51.100.0/120"}}
	for host, want := range map[string]bool{
		"crl.example.org": true, "CRL.Example.org.": true, "a.crl.example.org": true, "xcrl.example.org": false, "example.org": false,
		"corp.example": false, "a.corp.example": true, "a.b.corp.example": true, "acorp.example": false,
		"10.1.2.3": true, "10.2.0.1": false, "192.0.2.7": true, "192.0.2.8": false, "::ffff:10.1.2.3": true,
		"fd12::1": true, "fd12::1%eth0": true, "fe80::1": false, "": false, "10.1": false,
	} {
		if got := c.direct(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

// TestProxyAndExceptions: what is excepted is asked straight, after redirects too, and is held to what
// holds without a proxy.
func TestProxyAndExceptions(t *testing.T) {
	answer := func(text string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/redirect") {
				http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
				return
			}
			_, _ = w.Write([]byte(text))
		}))
		t.Cleanup(s.Close)
		return s
	}
	proxy, server := answer("proxy"), answer("server")
	for _, tt := range []struct {
		name    string
		url     string
		local   bool
		noProxy []string
		want    string // "" for an address that is not allowed
	}{
		{"through the proxy", "http://crl.example.org/x", false, nil, "proxy"},
		{"another is excepted", "http://crl.example.org/x", false, []string{"example.com"}, "proxy"},
		{"straight", server.URL + "/x", true, []string{"127.0.0.0/8"}, "server"},
		{"straight, the proxy's network too", "http://crl.example.org/x", false, []string{"127.0.0.0/8"}, "proxy"},
		{"redirect to one that is excepted", "http://crl.example.org/redirect?to=" + server.URL + "/y", true, []string{"127.0.0.1"}, "server"},
		{"of a certificate, to this machine", server.URL + "/x", false, []string{"127.0.0.0/8"}, ""},
		{"redirect of a certificate's to this machine", "http://crl.example.org/redirect?to=" + server.URL + "/y", false, []string{"127.0.0.1"}, ""},
	} {
		c := &Client{Proxy: proxy.URL, NoProxy: tt.noProxy, AllowLocal: tt.local}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		got, err := c.Get(ctx, tt.url, Validators{})
		switch {
		case tt.want == "" && !errors.Is(err, ErrAddress):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "":
			if text, err := ReadAll(got); err != nil || string(text) != tt.want {
				t.Errorf("%s: %q %v", tt.name, text, err)
			}
		}
		cancel()
	}
}

// TestLDAPFilterWithoutParentheses: so Active Directory writes it in distribution points.
func TestLDAPFilterWithoutParentheses(t *testing.T) {
	c := &Client{}
	u, err := c.parse("ldap://dc.example.org/CN=CA?certificateRevocationList?base?objectClass=cRLDistributionPoint")
	if err != nil {
		t.Fatal(err)
	}
	if q, err := ldapQuery(u); err != nil || q.Filter != "(objectClass=cRLDistributionPoint)" {
		t.Errorf("%q, %v", q.Filter, err)
	}
}
