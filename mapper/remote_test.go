package mapper_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/nettest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mapfile"
	"pam_pkcs11/mapper/internal/mappertest"
)

// secureServer is an https server and a client that trusts it.
func secureServer(t *testing.T, h http.HandlerFunc) (string, *fetch.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.URL, &fetch.Client{Transport: func(t *http.Transport) { t.TLSClientConfig = &tls.Config{RootCAs: roots} }}
}

func remoteChain(t *testing.T, address string, o mapper.Options, settings map[string][]string) (*mapper.Chain, error) {
	t.Helper()
	all := set("mapfile", address)
	for k, v := range settings {
		all[k] = v
	}
	b, err := config.NewMapper("cn", "cn", all)
	if err != nil {
		t.Fatal(err)
	}
	o.Accounts = mappertest.Accounts
	return mapper.New([]config.Mapper{b}, o)
}

func TestRemoteMapfile(t *testing.T) {
	const text = "A -> alice\n"
	cases := []struct {
		name    string
		handler http.HandlerFunc
		want    string
		why     string
	}{
		{"a list", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }, "alice", ""},
		{"a list without line end, of known length", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "A -> alice") }, "alice", ""},
		{"a list that may be cut", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "B -> bob\n")
			w.(http.Flusher).Flush()
			io.WriteString(w, "A -> ali")
		}, "", "whole line"},
		{"a connection that breaks", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, text)
		}, "", "unexpected EOF"},
		{"an error page", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, http.StatusInternalServerError) }, "", "status 500"},
		{"not modified, though nothing was kept", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, "", "not there"},
		{"announced too large", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(mapfile.MaxRemoteMap+1))
		}, "", "larger than allowed"},
		{"compressed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, text)
		}, "", "compressed"},
		{"redirect to http", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		}, "", "redirect"},
		{"a page in HTML", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>A -&gt; alice</html>\n") }, "", "no"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			url, client := secureServer(t, c.handler)
			ch, err := remoteChain(t, url+"/map", mapper.Options{Fetch: client}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, verdict := ask(t, ch, mappertest.Certificate(t, testca.Subject("CN=A")), ""); got != c.want || !strings.Contains(verdict, c.why) {
				t.Errorf("got %q (%s), want %q (%s)", got, verdict, c.want, c.why)
			}
		})
	}
}

func TestRemoteMapfileOfUntrustedServer(t *testing.T) {
	url, _ := secureServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "A -> alice\n") })
	ch, err := remoteChain(t, url, mapper.Options{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, verdict := ask(t, ch, mappertest.Certificate(t, testca.Subject("CN=A")), ""); got != "" || !strings.Contains(verdict, "certificate") {
		t.Errorf("got %q (%s)", got, verdict)
	}
}

func TestRemoteMapfileInTheClear(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "A -> alice\n") }))
	defer s.Close()
	for _, address := range []string{s.URL, "ldap://localhost/cn=x?description", "HTTP://localhost/"} {
		if _, err := remoteChain(t, address, mapper.Options{}, nil); err == nil || !strings.Contains(err.Error(), "insecure_mapfile") {
			t.Errorf("%s: %v", address, err)
		}
	}
	ch, err := remoteChain(t, s.URL, mapper.Options{}, set("insecure_mapfile", "true"))
	if err != nil {
		t.Fatal(err)
	}
	if got, verdict := ask(t, ch, mappertest.Certificate(t, testca.Subject("CN=A")), ""); got != "alice" {
		t.Errorf("got %q (%s)", got, verdict)
	}
}

// TestRemoteMapfileIsFetchedOnce in the life of a chain, however many certificates are asked about.
func TestRemoteMapfileIsFetchedOnce(t *testing.T) {
	var gets atomic.Int32
	url, client := secureServer(t, func(w http.ResponseWriter, _ *http.Request) { gets.Add(1); io.WriteString(w, "A -> alice\nB -> bob\n") })
	ch, err := remoteChain(t, url, mapper.Options{Fetch: client}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for cn, want := range map[string]string{"A": "alice", "B": "bob", "C": ""} {
		if got, verdict := ask(t, ch, mappertest.Certificate(t, testca.Subject("CN="+cn)), ""); got != want {
			t.Errorf("%s: %q (%s)", cn, got, verdict)
		}
	}
	if n := gets.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestRemoteMapfileCopy: the copy is used when the server says that it is good, and never otherwise.
func TestRemoteMapfileCopy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root keeps copies")
	}
	store := filepath.Join(t.TempDir(), "store")
	var version, sent atomic.Int32
	var down atomic.Bool
	version.Store(1)
	url, client := secureServer(t, func(w http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf(`"%d"`, version.Load())
		w.Header().Set("ETag", tag)
		switch {
		case down.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Header.Get("If-None-Match") == tag:
			w.WriteHeader(http.StatusNotModified)
		case version.Load() == 1:
			sent.Add(1)
			io.WriteString(w, "A -> alice\n")
		default:
			sent.Add(1)
			io.WriteString(w, "A -> bob\n")
		}
	})
	check := func(want string, bodies int32) {
		t.Helper()
		ch, err := remoteChain(t, url, mapper.Options{Fetch: client, StoreDir: store}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, verdict := ask(t, ch, mappertest.Certificate(t, testca.Subject("CN=A")), ""); got != want || sent.Load() != bodies {
			t.Errorf("got %q (%s), %d bodies; want %q, %d", got, verdict, sent.Load(), want, bodies)
		}
	}
	check("alice", 1)
	check("alice", 1) // not modified
	version.Store(2)
	check("bob", 2)
	down.Store(true)
	check("", 2) // the server does not answer: nobody
	down.Store(false)
	names, err := filepath.Glob(store + "/mapfiles/*")
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	st, err := os.Stat(names[0])
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the copy has mode %v, %v", st.Mode(), err)
	}
	for what, spoil := range map[string]func() error{
		"foreign":        func() error { return os.Chown(names[0], 61001, 0) },
		"writable":       func() error { return os.Chmod(names[0], 0o666) },
		"without a head": func() error { return os.WriteFile(names[0], []byte("A -> root\n"), 0o600) },
		"of another site": func() error {
			return os.WriteFile(names[0], []byte(`{"Address":"x","Validators":{"ETag":"\"2\""}}`+"\nA -> root\n"), 0o600)
		},
		"a link": func() error { return os.Symlink("/dev/zero", names[0]) },
	} {
		if err := os.Remove(names[0]); err != nil {
			t.Fatal(err)
		}
		if what == "foreign" || what == "writable" {
			if err := os.WriteFile(names[0], []byte(`{"Address":"`+url+`","Validators":{"ETag":"\"2\""}}`+"\nA -> root\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := spoil(); err != nil {
			t.Fatal(what, err)
		}
		before := sent.Load()
		check("bob", before+1)
	}
	left, err := filepath.Glob(store + "/mapfiles/mapfile-*")
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRemoteMapfileDeadline(t *testing.T) {
	address := nettest.Mute(t)
	for _, url := range []string{"https://" + address, "ldaps://" + address + "/cn=x?description"} {
		ch, err := remoteChain(t, url, mapper.Options{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		started, allowed := time.Now(), slowtest.Allowance()
		if r, err := ch.Find(ctx, mapper.Checked{Cert: mappertest.Certificate(t, testca.Subject("CN=A"))}, true); err == nil {
			t.Errorf("%s: %+v", url, r)
		}
		cancel()
		if took := time.Since(started); took > 10*time.Second+allowed() {
			t.Errorf("%s: took %s", url, took)
		}
	}
}

func TestMapfileInADirectory(t *testing.T) {
	const dn = "cn=map,ou=People," + slapdtest.Suffix
	lines := base64.StdEncoding.EncodeToString([]byte("# a list\nA -> alice\n"))
	server := slapdtest.Start(t, "dn: "+dn+"\nobjectClass: device\ncn: map\ndescription:: "+lines+"\n\n")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.CA.PEM())
	trusting := &fetch.Client{LDAP: ldapconn.Config{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	cases := []struct {
		name, address string
		client        *fetch.Client
		settings      map[string][]string
		want          string
	}{
		{
			name: "ldaps", address: server.LDAPS + "/" + dn + "?description", client: trusting,
			want: "alice",
		},
		{name: "ldaps of an unknown authority", address: server.LDAPS + "/" + dn + "?description"},
		{name: "ldapi", address: server.LDAPI + "/" + dn + "?description", want: "alice"},
		{
			name: "ldap", address: server.LDAP + "/" + dn + "?description",
			settings: set("insecure_mapfile", "true"), want: "alice",
		},
		{name: "attribute missing", address: server.LDAPI + "/" + dn + "?seeAlso"},
		{name: "entry missing", address: server.LDAPI + "/cn=x," + dn + "?description"},
		{name: "no attribute named", address: server.LDAPI + "/" + dn},
		{name: "socket missing", address: "ldapi://%2Fnonexistent/" + dn + "?description"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ch, err := remoteChain(t, c.address, mapper.Options{Fetch: c.client}, c.settings)
			if err != nil {
				t.Fatal(err)
			}
			if got, verdict := ask(t, ch, mappertest.Certificate(t, testca.Subject("CN=A")), ""); got != c.want {
				t.Errorf("got %q (%s), want %q", got, verdict, c.want)
			}
		})
	}
}
