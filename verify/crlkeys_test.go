package verify_test

import (
	"bytes"
	"crypto"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// A CA that was renewed: one name, two keys, and each key signs a list of its own certificates,
// without a scope.

// renewed is such a CA below a root, with a certificate of the first key.
type renewed struct {
	root, first, second *testca.CA
	leaf                *testca.Cert
}

func newRenewed(leaf ...testca.Option) renewed {
	root := testca.NewRoot("Root")
	r := renewed{root: root, first: root.Intermediate("Issuing"), second: root.Intermediate("Issuing")}
	r.leaf = r.first.Leaf("Alice", leaf...)
	return r
}

// check judges the leaf. The CAs in caDir are in ca_dir beside the root, the others on the card.
func (r renewed) check(t testing.TB, d onDisk, o verify.Options, card ...*testca.CA) error {
	t.Helper()
	var certs []*certinfo.Certificate
	for _, ca := range card {
		certs = append(certs, parsed(t, &ca.Cert))
	}
	_, err := d.verifier(t, o).Check(t.Context(), parsed(t, r.leaf), certs)
	return err
}

func (r renewed) onDisk(t testing.TB, files map[string][]byte) onDisk {
	t.Helper()
	files["root"] = r.root.CRL(testca.CRL{})
	return newOnDisk(t, world{r.root, r.first, r.leaf}, files)
}

// TestListOfOtherKeyHidesNothing: the list that names the certificate counts, whatever the times of
// the two lists, the names of their files, where the second CA certificate is, and whether the
// Lists are indexed.
func TestListOfOtherKeyHidesNothing(t *testing.T) {
	r := newRenewed()
	now := time.Now().Truncate(time.Second)
	at := func(ago time.Duration, entries ...testca.Revoked) testca.CRL {
		return testca.CRL{Number: 1, ThisUpdate: now.Add(-ago), Entries: entries, RawEntries: testca.ManyRevoked(2000)}
	}
	named := revoked(r.leaf, 1)
	for _, ago := range []time.Duration{time.Minute - time.Second, time.Minute, time.Minute + time.Second} {
		for _, names := range [][2]string{{"a", "b"}, {"b", "a"}} {
			for _, onCard := range []bool{false, true} {
				for _, index := range []bool{false, true} {
					t.Run(fmt.Sprintf("%v %v card %v index %v", ago, names, onCard, index), func(t *testing.T) {
						d := r.onDisk(t, map[string][]byte{
							names[0]: r.first.CRL(at(time.Minute, named...)),
							names[1]: r.second.CRL(at(ago)),
						})
						card := []*testca.CA{r.first, r.second}
						if !onCard {
							writeFile(t, filepath.Join(d.ca, "second"), r.second.PEM())
							writeFile(t, filepath.Join(d.ca, "first"), r.first.PEM())
							card = nil
						}
						o := verify.Options{}
						if index {
							o.StoreDir = storeDir(t)
							if _, err := d.verifier(t, o).UpdateCRLs(t.Context(), nil); err != nil {
								t.Fatal(err)
							}
						}
						if err := r.check(t, d, o, card...); verify.ReasonOf(err) != verify.ReasonRevoked {
							t.Errorf("got %v", err)
						}
					})
				}
			}
		}
	}
}

// TestGoodIsSaidByOwnKey: what the lists of both keys say together.
func TestGoodIsSaidByOwnKey(t *testing.T) {
	r := newRenewed()
	now := time.Now().Truncate(time.Second)
	older, newer := now.Add(-3*time.Hour), now.Add(-time.Minute)
	named, hold, lifted := revoked(r.leaf, 1), revoked(r.leaf, 6), revoked(r.leaf, 8)
	over := now.Add(-time.Hour)
	first := func(c testca.CRL) []byte { return r.first.CRL(c) }
	second := func(c testca.CRL) []byte { return r.second.CRL(c) }
	other := second(testca.CRL{Number: 9, ThisUpdate: newer})
	whole := first(testca.CRL{Number: 1, ThisUpdate: older})
	critical := testca.Extension{OID: "1.2.3.4", Critical: true, Value: []byte{5, 0}}
	tests := []struct {
		name  string
		lists [][]byte
		want  verify.Reason
	}{
		{"both, neither names it", [][]byte{whole, other}, ""},
		{"own alone", [][]byte{whole}, ""},
		{"other alone: no trace of a list of its own key", [][]byte{other}, ""},
		{"other alone names it", [][]byte{second(testca.CRL{ThisUpdate: newer, Entries: named})}, verify.ReasonRevoked},
		{"own is good, an older list of the other key names it", [][]byte{first(testca.CRL{ThisUpdate: newer}), second(testca.CRL{ThisUpdate: older, Entries: named})}, verify.ReasonRevoked},
		{"own expired", [][]byte{first(testca.CRL{ThisUpdate: older, NextUpdate: over}), other}, verify.ReasonRevocationUnknown},
		{"own expired, names it", [][]byte{first(testca.CRL{ThisUpdate: older, NextUpdate: over, Entries: named}), other}, verify.ReasonRevoked},
		{"own damaged", [][]byte{first(testca.CRL{ThisUpdate: older, CorruptSignature: true}), other}, verify.ReasonRevocationUnknown},
		{"own cut short", [][]byte{whole[:len(whole)-5], other}, verify.ReasonRevocationUnknown},
		{"own of the future", [][]byte{first(testca.CRL{ThisUpdate: now.Add(time.Hour)}), other}, verify.ReasonRevocationUnknown},
		{"own with an unknown critical extension", [][]byte{first(testca.CRL{ThisUpdate: older, Extensions: []testca.Extension{critical}}), other}, verify.ReasonRevocationUnknown},
		{"own of some reasons only", [][]byte{first(testca.CRL{ThisUpdate: older, IDP: testca.IDP{Reasons: 0x2}.DER()}), other}, verify.ReasonRevocationUnknown},
		{"own names it on hold, a newer own lifts it", [][]byte{first(testca.CRL{ThisUpdate: older, Entries: hold}), first(testca.CRL{ThisUpdate: older.Add(time.Hour)}), other}, ""},
		{"own newer expired, own older not", [][]byte{first(testca.CRL{ThisUpdate: older.Add(time.Hour), NextUpdate: over}), whole, other}, verify.ReasonRevocationUnknown},
		{"own of the same second, one names it", [][]byte{first(testca.CRL{ThisUpdate: older}), first(testca.CRL{ThisUpdate: older, Entries: named}), other}, verify.ReasonRevoked},
		{"own of the same second, the higher number counts", [][]byte{first(testca.CRL{Number: 1, ThisUpdate: older, Entries: hold}), first(testca.CRL{Number: 2, ThisUpdate: older}), other}, ""},
		{"own delta names it", [][]byte{whole, first(testca.CRL{Number: 2, DeltaBase: 1, ThisUpdate: newer, Entries: named}), other}, verify.ReasonRevoked},
		{"own delta whose time is over names it", [][]byte{whole, first(testca.CRL{Number: 2, DeltaBase: 1, ThisUpdate: older, NextUpdate: over, Entries: named}), other}, verify.ReasonRevoked},
		{"own delta lifts the hold", [][]byte{first(testca.CRL{Number: 1, ThisUpdate: older, Entries: hold}), first(testca.CRL{Number: 2, DeltaBase: 1, ThisUpdate: newer, Entries: lifted}), other}, ""},
		{"a delta of the other key lifts nothing", [][]byte{first(testca.CRL{Number: 1, ThisUpdate: older, Entries: hold}), second(testca.CRL{Number: 9, DeltaBase: 1, ThisUpdate: newer, Entries: lifted}), other}, verify.ReasonRevoked},
		{"a delta of its own key does not renew the base of the other", [][]byte{second(testca.CRL{Number: 1, ThisUpdate: older, NextUpdate: over}), first(testca.CRL{Number: 2, DeltaBase: 1, ThisUpdate: newer})}, verify.ReasonRevocationUnknown},
		{"a delta of the other key renews nothing", [][]byte{first(testca.CRL{Number: 1, ThisUpdate: older, NextUpdate: over}), second(testca.CRL{Number: 9, DeltaBase: 1, ThisUpdate: newer}), other}, verify.ReasonRevocationUnknown},
	}
	for _, tt := range tests {
		for _, backwards := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, backwards %v", tt.name, backwards), func(t *testing.T) {
				files := map[string][]byte{}
				for i, der := range tt.lists {
					if backwards {
						i = 99 - i
					}
					files[fmt.Sprintf("%02d", i)] = der
				}
				d := r.onDisk(t, files)
				err := r.check(t, d, verify.Options{}, r.first, r.second)
				if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// TestOtherKeyWhereOwnPointIsNotAsked: a distribution point that nobody asked may have the list of
// its own key.
func TestOtherKeyWhereOwnPointIsNotAsked(t *testing.T) {
	const own = "http://pki.example.org/first.crl"
	r := newRenewed(testca.CRLDistribution(own))
	point := testca.IDP{Name: testca.FullName(testca.URI(own))}.DER()
	for name, tt := range map[string]struct {
		list testca.CRL
		want verify.Reason
	}{
		"a list of no point":    {testca.CRL{}, verify.ReasonRevocationUnknown},
		"the list of the point": {testca.CRL{IDP: point}, ""},
	} {
		d := r.onDisk(t, map[string][]byte{"other": r.second.CRL(tt.list)})
		err := r.check(t, d, verify.Options{}, r.first, r.second)
		if verify.ReasonOf(err) != tt.want || err != nil && !strings.Contains(err.Error(), own) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCAOfRenewedRoot: a CA of the chain whose issuer was renewed is judged by the list of its own
// issuer's key.
func TestCAOfRenewedRoot(t *testing.T) {
	first, second := testca.NewRoot("Root"), testca.NewRoot("Root")
	newWithOld := first.Intermediate("Root", testca.WithKey(second.Key))
	inter := first.Intermediate("Inter")
	leaf := inter.Leaf("Alice")
	d := newOnDisk(t, world{first, inter, leaf}, map[string][]byte{
		"1": first.CRL(testca.CRL{ThisUpdate: time.Now().Add(-2 * time.Hour), Entries: revoked(&inter.Cert, 2)}),
		"2": second.CRL(testca.CRL{ThisUpdate: time.Now().Add(-time.Hour)}),
		"3": inter.CRL(testca.CRL{}),
	})
	_, err := d.verifier(t, verify.Options{}).Check(t.Context(), parsed(t, leaf), []*certinfo.Certificate{parsed(t, &inter.Cert), parsed(t, &newWithOld.Cert)})
	if verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("got %v", err)
	}
}

// TestOtherKeyBesideOwnDelta: a delta is a trace of the lists of its key, though nothing at hand
// completes it.
func TestOtherKeyBesideOwnDelta(t *testing.T) {
	r := newRenewed()
	d := r.onDisk(t, map[string][]byte{
		"delta": r.first.CRL(testca.CRL{Number: 5, DeltaBase: 4, Entries: revoked(r.leaf, 1)}),
		"other": r.second.CRL(testca.CRL{Number: 9}),
	})
	if err := r.check(t, d, verify.Options{}, r.first, r.second); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Errorf("got %v", err)
	}
}

// TestStoreKeepsKeysApart: what a login leaves in the store serves the certificates of the key that
// signed it.
func TestStoreKeepsKeysApart(t *testing.T) {
	o := newOnline(t)
	second := o.world.root.Intermediate("Inter", testca.CRLDistribution(o.rootURL))
	colleague := second.Leaf("Bob", testca.CRLDistribution(strings.TrimSuffix(o.interURL, ".crl")+"2.crl"))
	alice := o.leaf
	named := o.world.inter.CRL(testca.CRL{Number: 5, ThisUpdate: time.Now().Add(-2 * time.Hour), Entries: revoked(alice, 1)})
	other := second.CRL(testca.CRL{Number: 9, ThisUpdate: time.Now().Add(-time.Hour)})
	down := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	portal := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>log in")) })
	byColleague := func(t *testing.T, dir string) {
		t.Helper()
		first := o.world.inter
		o.second.Store(serveCRL(other))
		o.leaf, o.world.inter = colleague, second
		if err := o.login(t, dir, verify.Options{}); err != nil {
			t.Fatal(err)
		}
		o.leaf, o.world.inter = alice, first
	}
	login := func(t *testing.T, dir string, own http.Handler) error {
		t.Helper()
		o.inter.Store(http.HandlerFunc(own.ServeHTTP))
		o.trusts = []*testca.Cert{&second.Cert}
		defer func() { o.trusts = nil }()
		return o.login(t, dir, verify.Options{})
	}

	for name, own := range map[string]http.Handler{"down": down, "portal": portal} {
		dir := storeDir(t)
		byColleague(t, dir)
		if err := login(t, dir, own); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), o.interURL) {
			t.Errorf("own point %s: %v", name, err)
		}
	}

	dir := storeDir(t)
	byColleague(t, dir)
	if err := login(t, dir, serveCRL(named)); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("own point names it: %v", err)
	}
	age(t, dir)
	if err := login(t, dir, serveCRL(other)); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("own point gives the list of the other key now: %v", err)
	}

	dir = storeDir(t)
	if err := login(t, dir, serveCRL(other)); err != nil {
		t.Errorf("its point has a list of another key, and there never was one of its own: %v", err)
	}
	if err := login(t, storeDir(t), serveCRL(o.world.inter.CRL(testca.CRL{Number: 5}))); err != nil {
		t.Errorf("good: %v", err)
	}
}

// TestSeenListOfOwnKey: an address that gave a list of the certificate's own key and gives one of
// another key now proves nothing, also when the old list is gone.
func TestSeenListOfOwnKey(t *testing.T) {
	o := newOnline(t)
	second := o.world.root.Intermediate("Inter", testca.CRLDistribution(o.rootURL))
	o.trusts = []*testca.Cert{&second.Cert}
	dir := storeDir(t)
	if err := o.login(t, dir, verify.Options{}); err != nil {
		t.Fatal(err)
	}
	o.inter.Store(serveCRL(second.CRL(testca.CRL{Number: 9})))
	if err := os.RemoveAll(filepath.Join(dir, "crl")); err != nil {
		t.Fatal(err)
	}
	if err := o.login(t, dir, verify.Options{}); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "newest") {
		t.Errorf("got %v", err)
	}
}

// age makes the store ask every server again.
func age(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "crl", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %d files", err, len(files))
	}
	for _, file := range files {
		changeNote(t, file, func(note map[string]any) {
			checked, err := time.Parse(time.RFC3339Nano, fmt.Sprint(note["checked"]))
			if err != nil {
				t.Fatal(err)
			}
			note["checked"] = checked.Add(-2 * time.Hour)
		})
	}
}

// TestOCSPIsAboutTheKey: a responder is asked about the key that signed the certificate, and what
// it says about another key of that name is not believed, nor what that other key signs.
func TestOCSPIsAboutTheKey(t *testing.T) {
	r := newRenewed()
	for name, tt := range map[string]struct {
		about, signer *testca.CA
		want          verify.Reason
	}{
		"its key":                 {r.first, r.first, ""},
		"the other key":           {r.second, r.first, verify.ReasonRevocationUnknown},
		"signed by the other key": {r.first, r.second, verify.ReasonRevocationUnknown},
		"the other key, by it":    {r.second, r.second, verify.ReasonRevocationUnknown},
	} {
		s := responding(t, func(q testca.Question) []byte {
			if !bytes.Equal(q.CertID, r.first.CertID(hashOf(q), r.leaf.Serial)) {
				return signs(&r.root.Cert, testca.OCSPGood)(q)
			}
			single := testca.Single{CertID: tt.about.CertID(hashOf(q), r.leaf.Serial)}
			return tt.signer.OCSP(testca.OCSP{Singles: []testca.Single{single}, Nonce: q.Nonce})
		})
		v := withOCSP(t, verify.Options{CRLLeafOnly: true}, &r.root.Cert)
		v.AskLeafOnly(true)
		leaf := r.first.Leaf("Alice", testca.Serial(r.leaf.Serial...), testca.InfoAccess([]string{s.URL}, nil))
		_, err := v.Check(within(t, 20*time.Second), parsed(t, leaf), []*certinfo.Certificate{parsed(t, &r.second.Cert), parsed(t, &r.first.Cert)})
		if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func hashOf(q testca.Question) crypto.Hash {
	if q.Hash == "1.3.14.3.2.26" {
		return crypto.SHA1
	}
	return crypto.SHA256
}
