package verify_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// fleet is an online world whose configuration names the lists of many authorities.
type fleet struct {
	*online
	options verify.Options
	asked   func(path string) int
	others  int
	dir     string
	now     time.Time
}

// newFleet makes lists that are in date for 99 hours; the certificates name distribution points only
// if points is set.
func newFleet(t *testing.T, points bool) *fleet {
	t.Helper()
	f := &fleet{online: newOnline(t), others: 40, dir: storeDir(t), now: time.Now()}
	list := testca.CRL{Number: 5, NextUpdate: f.now.Add(99 * time.Hour)}
	if !points {
		f.world.inter = f.world.root.Intermediate("Inter")
		f.world.leaf = f.world.inter.Leaf("Alice")
	}
	root, inter := f.world.root.CRL(list), f.world.inter.CRL(list)
	f.online.root.Store(serveCRL(root))
	f.online.inter.Store(serveCRL(inter))
	lists := map[string][]byte{"/root": root, "/inter": inter}
	cas := append(f.world.root.PEM(), f.world.inter.PEM()...)
	for i := range f.others {
		ca := testca.NewRoot(fmt.Sprintf("Other %d", i))
		lists[fmt.Sprintf("/%d", i)] = ca.CRL(list)
		cas = append(cas, ca.PEM()...)
	}
	var server string
	server, f.asked = listServer(t, lists)
	for path := range lists {
		f.options.CRLURLs = append(f.options.CRLURLs, server+path)
	}
	f.options.CADir = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, f.options.CADir, cas)
	return f
}

// at is the options of a login or a run some time from now.
func (f *fleet) at(after time.Duration) verify.Options {
	o := f.options
	o.Now = func() time.Time { return f.now.Add(after) }
	return o
}

// update is a run of the timer.
func (f *fleet) update(t *testing.T, after time.Duration) {
	t.Helper()
	o := f.at(after)
	o.StoreDir, o.Policy = f.dir, verify.Policy{CA: true, CRL: "online"}
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if reports, err := v.UpdateCRLs(t.Context(), nil); err != nil {
		t.Fatal(err, reports)
	}
}

// requests counts those of the configured addresses of others, and of the two of this chain.
func (f *fleet) requests() (others, ours int) {
	for i := range f.others {
		others += f.asked(fmt.Sprintf("/%d", i))
	}
	return others, f.asked("/root") + f.asked("/inter")
}

// step is one login.
func (f *fleet) step(t *testing.T, name string, after time.Duration, want verify.Reason, others, ours int) {
	t.Helper()
	othersBefore, oursBefore := f.requests()
	err := f.login(t, f.dir, f.at(after))
	if verify.ReasonOf(err) != want || (err == nil) != (want == "") {
		t.Errorf("%s: %v", name, err)
	}
	othersAfter, oursAfter := f.requests()
	if n := othersAfter - othersBefore; n != others {
		t.Errorf("%s: %d requests to others' addresses, want %d", name, n, others)
	}
	if n := oursAfter - oursBefore; n != ours {
		t.Errorf("%s: %d requests to addresses of this chain, want %d", name, n, ours)
	}
}

// TestLoginAsksItsOwnAddresses: once the timer has seen whose list each address gives, a login asks
// those of its chain.
func TestLoginAsksItsOwnAddresses(t *testing.T) {
	f := newFleet(t, false)
	f.update(t, 0)
	f.step(t, "just after the timer", time.Minute, "", 0, 0)
	f.step(t, "the stored lists are older than an hour", 2*time.Hour, "", 0, 2)
	f.step(t, "and a day", 30*time.Hour, "", 0, 2)
}

// TestUnknownAddressesAreTheTimers: where the certificates' own points answer, nobody waits for
// configured addresses of which nothing is known.
func TestUnknownAddressesAreTheTimers(t *testing.T) {
	f := newFleet(t, true)
	f.step(t, "nothing is known", 0, "", 0, 0)
	f.step(t, "an hour later", 2*time.Hour, "", 0, 0)
	left, err := filepath.Glob(filepath.Join(f.dir, "crl", ".new-"+"*"))
	if len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestUnknownAddressesAreAskedInNeed: where nothing else answers they are asked at once, whoever they
// serve, and remembered.
func TestUnknownAddressesAreAskedInNeed(t *testing.T) {
	f := newFleet(t, false)
	f.step(t, "nothing is known", 0, "", f.others, 2)
	f.step(t, "now it is", 2*time.Hour, "", 0, 2)
}

// TestMovedList: a configured address that gave another's list gives ours since. A login that needs it
// asks it where no timer has asked it for a day.
func TestMovedList(t *testing.T) {
	o := newOnline(t)
	o.world.inter = o.world.root.Intermediate("Inter")
	o.leaf = o.world.inter.Leaf("Alice")
	dir := storeDir(t)
	now := time.Now()
	list := testca.CRL{Number: 5, NextUpdate: now.Add(99 * time.Hour)}
	o.root.Store(serveCRL(o.world.root.CRL(list)))
	o.inter.Store(serveCRL(o.world.root.CRL(list)))
	at := func(d time.Duration) verify.Options {
		return verify.Options{
			CRLURLs:     []string{o.rootURL, o.interURL},
			CRLLeafOnly: true,
			Now:         func() time.Time { return now.Add(d) },
		}
	}
	if err := o.login(t, dir, at(0)); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Fatal(err)
	}
	o.inter.Store(serveCRL(o.world.inter.CRL(list)))
	if err := o.login(t, dir, at(2*time.Hour)); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || o.asked.Load() != 1 {
		t.Errorf("asked lately: %v, %d requests", err, o.asked.Load())
	}
	if err := o.login(t, dir, at(25*time.Hour)); err != nil || o.asked.Load() != 2 {
		t.Errorf("a day later: %v, %d requests", err, o.asked.Load())
	}
}

// TestMemoryMakesNothingGood: what an address gave before decides about asking alone; a list that now
// has the certificate refuses it, and so does one that cannot be had.
func TestMemoryMakesNothingGood(t *testing.T) {
	f := newFleet(t, true)
	f.update(t, 0)
	hold := testca.CRL{Number: 6, NextUpdate: f.now.Add(99 * time.Hour), Entries: revoked(f.leaf, 6)}
	f.online.inter.Store(serveCRL(f.world.inter.CRL(hold)))
	if err := f.login(t, f.dir, f.at(2*time.Hour)); verify.ReasonOf(err) != verify.ReasonRevoked {
		t.Errorf("revoked: %v", err)
	}

	f = newFleet(t, false)
	f.update(t, 0)
	for _, u := range f.options.CRLURLs { // all of them claim to serve our issuer, and have no list in date
		noteOn(t, f.dir, u, func(note map[string]any) {
			note["issuer"] = storedName([]byte(parsed(t, f.world.leaf).Issuer.Key()))
			note["signer"] = storedName(parsed(t, &f.world.inter.Cert).RawSPKI)
		})
	}
	late := f.at(200 * time.Hour)
	if err := f.login(t, f.dir, late); verify.ReasonOf(err) != verify.ReasonRevocationUnknown {
		t.Errorf("nothing in date: %v", err)
	}
}

// TestUnknownDelta: a delta at a configured address of which nothing is known belongs to the list
// that is known.
func TestUnknownDelta(t *testing.T) {
	o := newOnline(t)
	o.world.inter = o.world.root.Intermediate("Inter")
	o.leaf = o.world.inter.Leaf("Alice")
	dir := storeDir(t)
	now := time.Now()
	o.root.Store(serveCRL(o.world.root.CRL(testca.CRL{Number: 1, NextUpdate: now.Add(99 * time.Hour)})))
	o.inter.Store(serveCRL(o.world.inter.CRL(testca.CRL{Number: 5, NextUpdate: now.Add(time.Hour)})))
	delta := testca.CRL{Number: 6, ThisUpdate: now.Add(time.Hour), NextUpdate: now.Add(99 * time.Hour), DeltaBase: 5}
	o.second.Store(serveCRL(o.world.inter.CRL(delta)))
	options := verify.Options{CRLURLs: []string{o.rootURL, o.interURL}, Now: func() time.Time { return now }}
	if err := o.login(t, dir, options); err != nil {
		t.Fatal(err)
	}
	options.CRLURLs = append(options.CRLURLs, o.interURL[:len(o.interURL)-len(".crl")]+"2.crl")
	options.Now = func() time.Time { return now.Add(3 * time.Hour) }
	if err := o.login(t, dir, options); err != nil {
		t.Errorf("renewed by the delta: %v", err)
	}
}
