package verify_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// TestCountBeganAnew: a CA that was restored publishes a lower number. Everything that looks at the
// list says so, and how to take it; once it is taken the lists before it are old, whatever their
// number.
func TestCountBeganAnew(t *testing.T) {
	w := newWorld()
	now := time.Now().Truncate(time.Second)
	before := w.inter.CRL(testca.CRL{Number: 900, ThisUpdate: now.Add(-3 * time.Hour)})
	anew := w.inter.CRL(testca.CRL{Number: 2, ThisUpdate: now.Add(-time.Hour)})
	next := w.inter.CRL(testca.CRL{Number: 3, ThisUpdate: now.Add(-time.Minute), Entries: revoked(w.leaf, 1)})
	d := newOnDisk(t, w, map[string][]byte{"root": w.root.CRL(testca.CRL{}), "inter": before})
	writeFile(t, filepath.Join(d.ca, "inter.pem"), w.inter.PEM())
	o := verify.Options{StoreDir: storeDir(t)}
	file := filepath.Join(d.crls, "inter")
	update := func() []verify.CRLReport {
		t.Helper()
		reports, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return reports
	}
	// fault is what the three commands say of the list in the file.
	fault := func() (all []error) {
		t.Helper()
		checked, err := d.verifier(t, o).CheckCRLs(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, reports := range [][]verify.CRLReport{update(), d.verifier(t, o).ListCRLs(), checked} {
			var said error
			for _, r := range reports {
				if r.Path == file {
					said = errors.Join(said, r.Err)
				}
			}
			all = append(all, said)
		}
		return all
	}

	update()
	if err := d.check(t, d.verifier(t, o)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, anew)
	err := d.check(t, d.verifier(t, o))
	for _, err := range append(fault(), err) {
		if err == nil || !strings.Contains(err.Error(), "newest") || !strings.Contains(err.Error(), `crl accept "CN=Inter`) {
			t.Errorf("got %v", err)
		}
	}

	v := d.verifier(t, o)
	refused, err := v.RefusedCRLs(t.Context(), parsed(t, &w.inter.Cert).Subject.RFC4514())
	if err != nil || len(refused) != 1 || refused[0].SeenNumber != "900" || refused[0].List.Number != "2" {
		t.Fatalf("%+v, %v", refused, err)
	}
	if byFile, err := v.RefusedCRLs(t.Context(), file); err != nil || len(byFile) != 1 || byFile[0].Note != refused[0].Note {
		t.Errorf("by file: %+v, %v", byFile, err)
	}
	if err := v.AcceptCRL(t.Context(), refused[0]); err != nil {
		t.Fatal(err)
	}
	for _, err := range append(fault(), d.check(t, d.verifier(t, o))) {
		if err != nil {
			t.Errorf("accepted: %v", err)
		}
	}
	if left, err := v.RefusedCRLs(t.Context(), file); err != nil || len(left) != 0 {
		t.Errorf("left: %+v, %v", left, err)
	}

	// The list of before lies there too, and its higher number counts for nothing.
	writeFile(t, filepath.Join(d.crls, "before"), before)
	update()
	writeFile(t, file, next)
	if err := d.check(t, d.verifier(t, o)); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("the next list: %v", err)
	}
	for _, err := range fault() {
		if err != nil {
			t.Errorf("the next list: %v", err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := d.check(t, d.verifier(t, o)); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Errorf("the list of before: %v", err)
	}
}

// TestOlderCopyIsNoFault: an old list beside the one that counts is nothing to report.
func TestOlderCopyIsNoFault(t *testing.T) {
	w := newWorld()
	d := newOnDisk(t, w, map[string][]byte{
		"root": w.root.CRL(testca.CRL{}),
		"a":    w.inter.CRL(testca.CRL{Number: 1, ThisUpdate: time.Now().Add(-3 * time.Hour)}),
		"b":    w.inter.CRL(testca.CRL{Number: 2}),
	})
	writeFile(t, filepath.Join(d.ca, "inter.pem"), w.inter.PEM())
	o := verify.Options{StoreDir: storeDir(t)}
	for range 2 {
		reports, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range append(reports, d.verifier(t, o).ListCRLs()...) {
			if r.Err != nil {
				t.Errorf("%+v", r)
			}
		}
	}
}

// TestAcceptFromAddress: the refused list is not in the store, so it is fetched to be shown, and
// once more to be kept.
func TestAcceptFromAddress(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	if err := o.login(t, dir, verify.Options{}); err != nil {
		t.Fatal(err)
	}
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 1, ThisUpdate: time.Now().Add(-time.Minute)})))
	options := verify.Options{StoreDir: dir, CRLURLs: []string{o.interURL, o.rootURL}}
	options.Policy.CRL = "online"
	v := trusting(t, options, &o.world.root.Cert, &o.world.inter.Cert)
	name := parsed(t, &o.world.inter.Cert).Subject.RFC4514()
	refused, err := v.RefusedCRLs(t.Context(), name)
	if err != nil || len(refused) != 1 || refused[0].List.URL != o.interURL || refused[0].SeenNumber != "5" {
		t.Fatalf("%+v, %v", refused, err)
	}
	if err := v.AcceptCRL(t.Context(), refused[0]); err != nil {
		t.Fatal(err)
	}
	if err := o.login(t, dir, verify.Options{}); err != nil {
		t.Error(err)
	}
	if reports := v.ListCRLs(); len(reports) != 2 || reports[0].Number != "1" || reports[1].Number != "1" {
		t.Errorf("%+v", reports)
	}
	if left, err := v.RefusedCRLs(t.Context(), name); err != nil || len(left) != 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
}
