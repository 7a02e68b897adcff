package verify_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// cardOnly is a world whose issuing CA is on the card alone, and whose list is large.
type cardOnly struct {
	onDisk
	options verify.Options
	list    atomic.Pointer[[]byte]
	whole   atomic.Int32 // how often the list was sent
}

func newCardOnly(t *testing.T, entries ...testca.Revoked) *cardOnly {
	t.Helper()
	w := newWorld()
	c := &cardOnly{onDisk: newOnDisk(t, w, map[string][]byte{"root.crl": w.root.CRL(testca.CRL{Number: 1})})}
	c.publish(w.inter, 5, entries...)
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == "" {
			c.whole.Add(1)
		}
		serveCRL(*c.list.Load())(out, r)
	}))
	t.Cleanup(server.Close)
	c.options = verify.Options{StoreDir: storeDir(t), CRLURLs: []string{server.URL + "/inter.crl"}, Policy: verify.Policy{CRL: "auto"}}
	return c
}

func (c *cardOnly) publish(ca *testca.CA, number int64, entries ...testca.Revoked) {
	list := ca.CRL(testca.CRL{Number: number, RawEntries: testca.ManyRevoked(2000), Entries: entries})
	c.list.Store(&list)
}

// login checks the certificate and tells the verifier that the login was granted.
func (c *cardOnly) login(t *testing.T) error {
	t.Helper()
	v := c.verifier(t, c.options)
	r, err := v.Check(t.Context(), parsed(t, c.leaf), []*certinfo.Certificate{parsed(t, &c.inter.Cert)})
	if err == nil {
		v.Granted(r)
	}
	return err
}

// update gives the reports of a run, by path or address.
func (c *cardOnly) update(t *testing.T) map[string]verify.CRLReport {
	t.Helper()
	reports, err := c.verifier(t, c.options).UpdateCRLs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]verify.CRLReport{}
	for _, r := range reports {
		found[filepath.Base(r.Path)+r.URL] = r
		if r.Err != nil {
			found["fault"] = r
		}
	}
	return found
}

// TestIssuerOnTheCardAlone: after a login the timer can check the list, keep it, index it, and ask
// whether it has changed.
func TestIssuerOnTheCardAlone(t *testing.T) {
	c := newCardOnly(t)
	if fault := c.update(t)["fault"]; !fault.NotKept || !strings.Contains(fault.Err.Error(), "a chain that logged in") {
		t.Errorf("before any login: %+v", fault)
	}
	if err := c.login(t); err != nil {
		t.Fatal(err)
	}
	before := c.whole.Load()
	for range 3 {
		found := c.update(t)
		if fault, bad := found["fault"]; bad {
			t.Errorf("%+v", fault)
		}
		indexed := 0
		for _, r := range found {
			if r.Indexed && r.Signed {
				indexed++
			}
		}
		if indexed != 1 {
			t.Errorf("%d lists indexed: %+v", indexed, found)
		}
	}
	if n := c.whole.Load() - before; n > 0 {
		t.Errorf("the list was sent %d times", n)
	}
	if scans, err := scansOf(t, c.onDisk, c.options); err != nil || scans > 1 { // the root's is small
		t.Errorf("a login: %v, %d lists read", err, scans)
	}
	c.publish(c.inter, 6, revoked(c.leaf, 1)...)
	c.update(t)
	if err := c.login(t); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("revoked: %v", err)
	}
}

// TestKeptAuthoritiesAreNoAnchors: what lies in the store counts only below a CA of ca_dir, while it
// is valid, and under its right name; a login never takes it into its chain.
func TestKeptAuthoritiesAreNoAnchors(t *testing.T) {
	c := newCardOnly(t)
	stranger := testca.NewRoot("Stranger")
	notCA := c.root.Leaf("Inter")
	kept := func(cert *testca.Cert) string {
		return filepath.Join(c.options.StoreDir, "ca", storedName(cert.DER)+".der")
	}
	for _, cert := range []*testca.Cert{&stranger.Cert, notCA} {
		writeFile(t, kept(cert), cert.DER)
	}
	writeFile(t, filepath.Join(c.options.StoreDir, "ca", "0123.der"), c.inter.DER)
	writeFile(t, filepath.Join(c.options.StoreDir, "ca", "x.der"), []byte("nothing"))
	if all := c.verifier(t, c.options).CRLs().KeptSigners(); len(all) != 0 {
		t.Errorf("taken: %v", all)
	}
	if err := c.login(t); err != nil {
		t.Fatal(err)
	}
	if all := c.verifier(t, c.options).CRLs().KeptSigners(); len(all) != 1 || !all[0].Equal(parsed(t, &c.inter.Cert)) {
		t.Errorf("after a login: %v", all)
	}
	v := c.verifier(t, c.options)
	if _, err := v.Check(t.Context(), parsed(t, c.leaf), nil); verify.ReasonOf(err) != verify.ReasonIssuerUnknown {
		t.Errorf("a chain over what was kept: %v", err)
	}
	late := c.options
	late.Now = func() time.Time { return parsed(t, &c.inter.Cert).NotAfter.Add(time.Hour) }
	v = c.verifier(t, late)
	if all := v.CRLs().KeptSigners(); len(all) != 0 {
		t.Errorf("after its time: %v", all)
	}
	if _, err := os.Stat(kept(&c.inter.Cert)); err != nil {
		t.Error(err)
	}
	if _, err := v.UpdateCRLs(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(kept(&c.inter.Cert)); err == nil {
		t.Error("it is still there after its time")
	}
}

// TestListOfAStranger: a list of the CA's name and another key is neither kept nor indexed.
func TestListOfAStranger(t *testing.T) {
	c := newCardOnly(t)
	if err := c.login(t); err != nil {
		t.Fatal(err)
	}
	c.publish(testca.NewRoot("Inter"), 9)
	if fault := c.update(t)["fault"]; fault.Err == nil || !strings.Contains(fault.Err.Error(), "not signed") {
		t.Errorf("%+v", fault)
	}
}
