package verify_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/nettest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/crl/store"
)

// online is a world whose certificates name distribution points on a server of this test.
type online struct {
	world
	root, inter atomic.Value   // http.HandlerFunc for /root.crl and /inter.crl
	trusts      []*testca.Cert // in ca_dir beside the root
	second      atomic.Value   // for /inter2.crl, of another key of the name
	rootURL     string
	interURL    string
	asked       atomic.Int32 // requests for /inter.crl
}

func newOnline(t testing.TB) *online {
	t.Helper()
	o := &online{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/root.crl":
			o.root.Load().(http.HandlerFunc)(w, r)
		case "/inter.crl":
			o.asked.Add(1)
			o.inter.Load().(http.HandlerFunc)(w, r)
		case "/inter2.crl":
			o.second.Load().(http.HandlerFunc)(w, r)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	o.rootURL, o.interURL = server.URL+"/root.crl", server.URL+"/inter.crl"
	o.world.root = testca.NewRoot("Root")
	o.world.inter = o.world.root.Intermediate("Inter", testca.CRLDistribution(o.rootURL))
	o.world.leaf = o.world.inter.Leaf("Alice", testca.CRLDistribution(o.interURL))
	o.root.Store(serveCRL(o.world.root.CRL(testca.CRL{Number: 1})))
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 5})))
	return o
}

// serveCRL answers with a body, and with 304 to those who have it.
func serveCRL(body []byte) http.HandlerFunc {
	tag := fmt.Sprintf("%q", storedName(body))
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(body)
	}
}

// login is one check with a verifier of its own, as each login has. Certificates may name this machine here.
func (o *online) login(t testing.TB, dir string, options verify.Options, change ...func(*store.Hooks)) error {
	t.Helper()
	options.StoreDir = dir
	if options.Policy.CRL == "" {
		options.Policy.CRL = "online"
	}
	options.Hooks().Local = true
	for _, c := range change {
		c(options.Hooks())
	}
	v := trusting(t, options, append(o.trusts, &o.world.root.Cert)...)
	v.Options().Policy.CA = true
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := v.Check(ctx, parsed(t, o.leaf), []*certinfo.Certificate{parsed(t, &o.world.inter.Cert)})
	return err
}

// storedName names files of the store.
func storedName(of []byte) string {
	sum := sha256.Sum256(of)
	return hex.EncodeToString(sum[:16])
}

// noteOn changes what the store has noted about an address.
func noteOn(t testing.TB, dir, url string, change func(note map[string]any)) {
	t.Helper()
	changeNote(t, filepath.Join(dir, "crl", storedName([]byte(url))+".json"), change)
}

func changeNote(t testing.TB, path string, change func(note map[string]any)) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	note := map[string]any{}
	if err := json.Unmarshal(data, &note); err != nil {
		t.Fatal(err)
	}
	change(note)
	if data, err = json.Marshal(note); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, data)
}

func storeDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCRLOnline(t *testing.T) {
	o := newOnline(t)
	good := o.world.inter.CRL(testca.CRL{Number: 5, RawEntries: testca.ManyRevoked(3000)})
	bad := o.world.inter.CRL(testca.CRL{Number: 5, Entries: revoked(o.leaf, 1), RawEntries: testca.ManyRevoked(3000)})
	status := func(code int, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write(body)
		}
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    verify.Reason
		text    string
	}{
		{"good", serveCRL(good), "", ""},
		{"revoked", serveCRL(bad), verify.ReasonRevoked, "keyCompromise"},
		{"PEM", serveCRL(testca.PEMCRL(good)), "", ""},
		{"PEM, revoked", serveCRL(append([]byte("\n"), testca.PEMCRL(bad)...)), verify.ReasonRevoked, ""},
		{"404 with the CRL as body", status(404, good), verify.ReasonRevocationUnknown, "HTTP status 404"},
		{"500", status(500, good), verify.ReasonRevocationUnknown, "HTTP status 500"},
		{"HTML", status(200, []byte("<html><body>Log in to this network")), verify.ReasonRevocationUnknown, "not a CertificateList"},
		{"empty", status(200, nil), verify.ReasonRevocationUnknown, "EOF"},
		{"304 that was not asked for", status(304, nil), verify.ReasonRevocationUnknown, "not modified"},
		{"23 octets", status(200, good[:23]), verify.ReasonRevocationUnknown, "ends in the middle"},
		{"cut", status(200, good[:len(good)-1]), verify.ReasonRevocationUnknown, "ends in the middle"},
		{"cut, PEM", status(200, testca.PEMCRL(good)[:5000]), verify.ReasonRevocationUnknown, "ends in the middle"},
		{"shorter than announced", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			_, _ = w.Write(good[:len(good)/2])
		}, verify.ReasonRevocationUnknown, "ends in the middle"},
		{"more behind it", status(200, append(bytes.Clone(good), 0)), verify.ReasonRevocationUnknown, "trailing"},
		{"two of them", status(200, append(bytes.Clone(good), bad...)), verify.ReasonRevocationUnknown, "trailing"},
		{"another issuer's", serveCRL(o.world.root.CRL(testca.CRL{})), verify.ReasonRevocationUnknown, ""},
		{"another key's", serveCRL(testca.NewRoot("Inter").CRL(testca.CRL{})), verify.ReasonRevocationUnknown, "not signed by"},
		{"expired", serveCRL(o.world.inter.CRL(testca.CRL{ThisUpdate: time.Now().Add(-48 * time.Hour)})), verify.ReasonRevocationUnknown, "has expired"},
		{"gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 8<<20))
			_ = z.Close()
		}, verify.ReasonRevocationUnknown, "compressed"},
		{"endless entries", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(endlessCRL(o.world.inter))
			for entry := testca.ManyRevoked(1000); ; {
				if _, err := w.Write(entry); err != nil {
					return
				}
			}
		}, verify.ReasonRevocationUnknown, "larger than allowed"},
		{"endless nothing", func(w http.ResponseWriter, _ *http.Request) {
			for blank := make([]byte, 1<<16); ; {
				if _, err := w.Write(bytes.ReplaceAll(blank, []byte{0}, []byte{' '})); err != nil {
					return
				}
			}
		}, verify.ReasonRevocationUnknown, "neither DER nor"},
		{"redirect loop", redirect("/inter.crl"), verify.ReasonRevocationUnknown, "redirects"},
		{"redirect to a file", redirect("file:///etc/passwd"), verify.ReasonRevocationUnknown, "scheme"},
		{"redirect", redirect("/root.crl"), verify.ReasonRevocationUnknown, ""},
		{"closed", func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				_ = c.Close()
			}
		}, verify.ReasonRevocationUnknown, "EOF"},
	}
	for _, tt := range tests {
		for _, kept := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", tt.name, kept), func(t *testing.T) {
				o.inter.Store(tt.handler)
				dir := ""
				if kept {
					dir = storeDir(t)
				}
				err := o.login(t, dir, verify.Options{MaxCRLSize: 4 << 20})
				if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.text) {
					t.Errorf("got %v", err)
				}
				if dir == "" {
					return
				}
				_, stored := os.Stat(filepath.Join(dir, "crl", storedName([]byte(o.interURL))+".crl"))
				if wanted := tt.want != verify.ReasonRevocationUnknown || tt.name == "expired" || strings.HasPrefix(tt.name, "another issuer") || tt.name == "redirect"; (stored == nil) != wanted {
					t.Errorf("stored: %v", stored)
				}
				left, _ := filepath.Glob(filepath.Join(dir, "crl", ".new-"+"*"))
				if len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}

// endlessCRL is the beginning of a CRL whose entries have no end in sight.
func endlessCRL(ca *testca.CA) []byte {
	tbs := append(append(bytes.Clone(testca.Number(1)), testca.Sequence(testca.OID("1.2.840.10045.4.3.2"))...), ca.Subject...)
	tbs = append(tbs, testca.Time(time.Now())...)
	long := []byte{0x30, 0x85, 0x10, 0, 0, 0, 0}
	longer := []byte{0x30, 0x85, 0x20, 0, 0, 0, 0}
	return append(append(append(bytes.Clone(longer), long...), tbs...), 0x30, 0x85, 0x0f, 0, 0, 0, 0)
}

func TestCRLAddressesOfThisMachine(t *testing.T) {
	o := newOnline(t)
	refused := func(h *store.Hooks) { h.Local = false }
	if err := o.login(t, "", verify.Options{}, refused); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("named by the certificate: %v", err)
	}
	if n := o.asked.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
	if err := o.login(t, "", verify.Options{CRLURLs: []string{o.rootURL, o.interURL}}, refused); err != nil {
		t.Errorf("configured: %v", err)
	}
	proxied := verify.Options{Proxy: "http://" + strings.TrimPrefix(o.rootURL[:strings.LastIndexByte(o.rootURL, '/')], "http://")}
	if err := o.login(t, "", proxied, refused); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "not allowed") {
		t.Errorf("by a proxy: %v", err)
	}
}

// Nothing is asked before the chain leads to an anchor, and a file is never followed.
func TestCRLAddressesOfStrangers(t *testing.T) {
	o := newOnline(t)
	stranger := testca.NewRoot("Stranger").Leaf("Alice", testca.CRLDistribution(o.interURL))
	options := verify.Options{Policy: verify.Policy{CRL: "online"}}
	options.Hooks().Local = true
	v := trusting(t, options, &o.world.root.Cert)
	v.Options().Policy.CA = true
	if _, err := v.Check(t.Context(), parsed(t, stranger), nil); verify.ReasonOf(err) != verify.ReasonIssuerUnknown || o.asked.Load() != 0 {
		t.Errorf("%v, %d requests", err, o.asked.Load())
	}
	path := filepath.Join(t.TempDir(), "root.crl")
	writeFile(t, path, o.world.root.CRL(testca.CRL{}))
	local := o.world.root.Leaf("Bob", testca.CRLDistribution("file://"+path))
	if _, err := v.Check(t.Context(), parsed(t, local), nil); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Errorf("a file: %v", err)
	}
	v = trusting(t, verify.Options{Policy: verify.Policy{CRL: "online"}, CRLURLs: []string{"file://" + path}}, &o.world.root.Cert)
	v.Options().Policy.CA = true
	if _, err := v.Check(t.Context(), parsed(t, local), nil); err != nil {
		t.Errorf("a configured file: %v", err)
	}
}

func TestCRLFromDirectory(t *testing.T) {
	root := testca.NewRoot("Root")
	for name, tt := range map[string]struct {
		crl  func(leaf *testca.Cert) []byte
		want verify.Reason
	}{
		"good":    {func(*testca.Cert) []byte { return root.CRL(testca.CRL{}) }, ""},
		"revoked": {func(l *testca.Cert) []byte { return root.CRL(testca.CRL{Entries: revoked(l, 1)}) }, verify.ReasonRevoked},
	} {
		leaf := root.Leaf("Alice")
		server := slapdtest.Start(t, "dn: cn=ca,"+slapdtest.Suffix+"\nobjectClass: cRLDistributionPoint\ncn: ca\ncertificateRevocationList;binary:: "+
			base64.StdEncoding.EncodeToString(tt.crl(leaf))+"\n\n")
		url := server.LDAP + "/cn=ca," + slapdtest.Suffix + "?certificateRevocationList;binary?base?(objectClass=*)"
		v := trusting(t, verify.Options{Policy: verify.Policy{CRL: "online"}, CRLURLs: []string{url}}, &root.Cert)
		v.Options().Policy.CA = true
		if _, err := v.Check(t.Context(), parsed(t, leaf), nil); verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The second address of a distribution point is asked when the first is dead, or mute.
func TestCRLMirrors(t *testing.T) {
	o := newOnline(t)
	mute := nettest.Mute(t)
	for _, first := range []string{"http://127.0.0.1:1/x", "http://" + mute + "/x"} {
		names := testca.FullName(testca.URI(first), testca.URI(o.interURL))
		o.leaf = o.world.inter.Leaf("Alice", testca.DistributionPoints(testca.Point(names, 0, nil)))
		if err := o.login(t, "", verify.Options{}); err != nil {
			t.Errorf("%s: %v", first, err)
		}
	}
}

func TestCRLStoreIsUsed(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	now := time.Now()
	at := func(d time.Duration) verify.Options {
		return verify.Options{Now: func() time.Time { return now.Add(d) }}
	}
	step := func(name string, options verify.Options, want verify.Reason, requests int32) {
		t.Helper()
		before := o.asked.Load()
		err := o.login(t, dir, options)
		if verify.ReasonOf(err) != want || (err == nil) != (want == "") {
			t.Errorf("%s: %v", name, err)
		}
		if n := o.asked.Load() - before; n != requests {
			t.Errorf("%s: %d requests, want %d", name, n, requests)
		}
	}
	dead := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) })
	step("first sight", at(0), "", 1)
	step("confirmed lately", at(time.Minute), "", 0)
	step("not modified", at(2*time.Hour), "", 1)
	step("confirmed lately again", at(2*time.Hour+time.Minute), "", 0)
	o.inter.Store(dead)
	step("the server is dead, the stored one is valid", at(4*time.Hour), "", 1)
	step("the clock was put back", at(-30*time.Minute), "", 1)
	step("the stored one has expired", at(30*time.Hour), verify.ReasonRevocationUnknown, 1)
	o.root.Store(serveCRL(o.world.root.CRL(testca.CRL{Number: 2, NextUpdate: now.Add(99 * time.Hour)})))
	step("the stored one has expired", at(31*time.Hour), verify.ReasonRevocationUnknown, 1)
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 4, NextUpdate: now.Add(99 * time.Hour)})))
	step("an older number is played back", at(31*time.Hour), verify.ReasonRevocationUnknown, 1)
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 6, NextUpdate: now.Add(99 * time.Hour), Entries: revoked(o.leaf, 6)})))
	step("on hold in a newer one", at(31*time.Hour), verify.ReasonRevoked, 1)
	o.inter.Store(dead)
	step("still on hold when that has expired", at(200*time.Hour), verify.ReasonRevoked, 1)
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 7, ThisUpdate: now.Add(250 * time.Hour)})))
	if err := o.login(t, dir, verify.Options{Now: at(200 * time.Hour).Now, CRLLeafOnly: true}); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("one from the future: %v", err)
	}
}

func TestCRLRollback(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	if err := o.login(t, dir, verify.Options{}); err != nil {
		t.Fatal(err)
	}
	// Even when the store's CRL is lost, an older one is not believed, wherever it comes from.
	for _, f := range []string{".crl", ".json"} {
		if err := os.Remove(filepath.Join(dir, "crl", storedName([]byte(o.interURL))+f)); err != nil {
			t.Fatal(err)
		}
	}
	older := o.world.inter.CRL(testca.CRL{Number: 4})
	o.inter.Store(serveCRL(older))
	for _, word := range []string{"online", "auto"} {
		crls := filepath.Join(t.TempDir(), "older.crl")
		writeFile(t, crls, older)
		err := o.login(t, dir, verify.Options{Policy: verify.Policy{CRL: word}, CRLDir: crls})
		if verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "older than one") {
			t.Errorf("%s: %v", word, err)
		}
	}
	if err := o.login(t, dir, verify.Options{}, func(h *store.Hooks) { h.ReadOnly = true }); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Errorf("without the right to write: %v", err)
	}
	// What a damaged note says is not known: nothing is believed until it is written anew.
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 5})))
	notes, _ := filepath.Glob(filepath.Join(dir, "newest", "*"))
	for _, n := range notes {
		writeFile(t, n, []byte("{"))
	}
	if err := o.login(t, dir, verify.Options{}, func(h *store.Hooks) { h.ReadOnly = true }); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "crl update") {
		t.Errorf("damaged note: %v", err)
	}
}

func TestCRLAuto(t *testing.T) {
	o := newOnline(t)
	crls := filepath.Join(t.TempDir(), "crls")
	writeFile(t, filepath.Join(crls, "root.crl"), o.world.root.CRL(testca.CRL{Number: 1}))
	writeFile(t, filepath.Join(crls, "inter.crl"), o.world.inter.CRL(testca.CRL{Number: 5}))
	auto := verify.Options{Policy: verify.Policy{CRL: "auto"}, CRLDir: crls}
	for name, handler := range map[string]http.HandlerFunc{
		"dead":       func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) },
		"expired":    serveCRL(o.world.inter.CRL(testca.CRL{ThisUpdate: time.Now().Add(-48 * time.Hour)})),
		"bad signed": serveCRL(o.world.inter.CRL(testca.CRL{CorruptSignature: true})),
		"HTML":       serveCRL([]byte("<html>")),
	} {
		o.inter.Store(handler)
		if err := o.login(t, storeDir(t), auto); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := o.login(t, storeDir(t), verify.Options{CRLDir: crls}); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
			t.Errorf("%s, crl_online looked into crl_dir: %v", name, err)
		}
	}
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 4, ThisUpdate: time.Now().Add(-2 * time.Hour)})))
	writeFile(t, filepath.Join(crls, "inter.crl"), o.world.inter.CRL(testca.CRL{Number: 5, Entries: revoked(o.leaf, 1)}))
	if err := o.login(t, storeDir(t), auto); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("revoked in the newer one of crl_dir: %v", err)
	}
}

// A process that may not write keeps nothing.
func TestCRLWithoutStore(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	for range 2 {
		if err := o.login(t, dir, verify.Options{}, func(h *store.Hooks) { h.ReadOnly = true }); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 || o.asked.Load() != 2 {
		t.Errorf("%v in the store, %d requests", entries, o.asked.Load())
	}
}

// Of several logins that meet a new CRL one fetches it.
func TestCRLFetchedOnce(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	body := o.world.inter.CRL(testca.CRL{Number: 5, RawEntries: testca.ManyRevoked(2000)})
	release := make(chan struct{})
	o.inter.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-release
		serveCRL(body)(w, r)
	}))
	var group sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		group.Go(func() { errs[i] = o.login(t, dir, verify.Options{}) })
	}
	slowtest.Until(t, "a request", func() bool { return o.asked.Load() > 0 })
	close(release)
	group.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if n := o.asked.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}
