package verify_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/crl/store"
)

// TestMirrorIsAsked: the place of the certificate is dead, and the site serves the list itself; the
// timer asks there too.
func TestMirrorIsAsked(t *testing.T) {
	o := newOnline(t)
	written := "http://crl.example.invalid/pki/inter.crl"
	o.leaf = o.world.inter.Leaf("Alice", testca.CRLDistribution(written))
	base := strings.TrimSuffix(o.interURL, "inter.crl")
	options := verify.Options{CRLMirrors: []verify.CRLMirror{{From: "http://crl.example.invalid/pki/", To: base}}, CRLLeafOnly: true}
	onlyMirror := func(h *store.Hooks) { h.Local = false }
	dir := storeDir(t)
	if err := o.login(t, dir, options, onlyMirror); err != nil || o.asked.Load() != 1 {
		t.Errorf("%v, %d requests", err, o.asked.Load())
	}
	options.StoreDir, options.Policy.CRL = dir, "online"
	v := trusting(t, options, &o.world.root.Cert)
	v.Granted(&verify.Result{Anchored: true, Chain: []*certinfo.Certificate{parsed(t, o.leaf)}})
	before := o.asked.Load()
	if reports, err := v.UpdateCRLs(t.Context(), nil); err != nil || o.asked.Load() != before+1 {
		t.Errorf("the timer asks %v, %v", reports, err)
	}
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 6, Entries: revoked(o.leaf, 1)})))
	if err := o.login(t, storeDir(t), options, onlyMirror); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("revoked: %v", err)
	}
}

// TestAddressWithoutServer: Active Directory names no server.
func TestAddressWithoutServer(t *testing.T) {
	root := testca.NewRoot("Root")
	written := "ldap:///cn=ca," + slapdtest.Suffix + "?certificateRevocationList;binary?base?objectClass=cRLDistributionPoint"
	leaf := root.Leaf("Alice", testca.CRLDistribution(written))
	server := slapdtest.Start(t, "dn: cn=ca,"+slapdtest.Suffix+"\nobjectClass: cRLDistributionPoint\ncn: ca\ncertificateRevocationList;binary:: "+
		base64.StdEncoding.EncodeToString(root.CRL(testca.CRL{}))+"\n\n")
	check := func(o verify.Options) error {
		o.Policy.CRL = "online"
		v := trusting(t, o, &root.Cert)
		v.Options().Policy.CA = true
		_, err := v.Check(t.Context(), parsed(t, leaf), nil)
		return err
	}
	if err := check(verify.Options{CRLLDAPServers: []string{server.LDAP}}); err != nil {
		t.Errorf("with a server: %v", err)
	}
	var e *verify.Error
	if err := check(verify.Options{}); !errors.As(err, &e) || e.Reason != verify.ReasonRevocationUnknown || !strings.Contains(e.Detail, "names no server") {
		t.Fatalf("without one: %v", err)
	}
	for _, key := range []string{"crl_ldap_server", "crl_url"} {
		if !strings.Contains(e.Restore, key) {
			t.Errorf("restore %q does not name %s", e.Restore, key)
		}
	}
}

// TestFileInCertificate: it is passed over, and the refusal says so and names the key for it.
func TestFileInCertificate(t *testing.T) {
	root := testca.NewRoot("Root")
	leaf := root.Leaf("Alice", testca.CRLDistribution("file:///etc/pki/root.crl"))
	for _, word := range []string{"online", "offline", "auto"} {
		v := trusting(t, verify.Options{Policy: verify.Policy{CRL: word}}, &root.Cert)
		v.Options().Policy.CA = true
		_, err := v.Check(t.Context(), parsed(t, leaf), nil)
		var e *verify.Error
		if !errors.As(err, &e) || !strings.Contains(e.Detail, "file:///etc/pki/root.crl was passed over") || !strings.Contains(e.Restore, "crl_url") {
			t.Errorf("%s: %v", word, err)
		}
	}
}
