package verify_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
	"pam_pkcs11/verify/crl/store"
)

// muteServer takes connections and says nothing; asked counts them.
func muteServer(t testing.TB) (url string, asked *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked = &atomic.Int32{}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return "http://" + l.Addr().String() + "/mute.crl", asked
}

// listServer gives the CRL of each path, and counts what it was asked.
func listServer(t testing.TB, lists map[string][]byte) (url string, asked func(path string) int) {
	t.Helper()
	counts := map[string]*atomic.Int32{}
	for path := range lists {
		counts[path] = &atomic.Int32{}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, known := lists[r.URL.Path]
		if !known {
			http.NotFound(w, r)
			return
		}
		counts[r.URL.Path].Add(1)
		serveCRL(body)(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, func(path string) int { return int(counts[path].Load()) }
}

// TestUpdateBesideMuteAddresses: what is mute or sends without an end takes nothing from the others,
// the indexes are built, and each address that gave nothing has a line with its reason.
func TestUpdateBesideMuteAddresses(t *testing.T) {
	w := newWorld()
	many := testca.ManyRevoked(2000)
	inter := w.inter.CRL(testca.CRL{Number: 7, RawEntries: many})
	server, asked := listServer(t, map[string][]byte{"/inter.crl": inter})
	mute, _ := muteServer(t)
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; r.Context().Err() == nil; i++ {
			_, _ = w.Write(inter[i%len(inter) : i%len(inter)+1])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(time.Millisecond) // the server is slow on purpose
		}
	}))
	t.Cleanup(slow.Close)
	t.Cleanup(slow.CloseClientConnections)
	d := newOnDisk(t, w, map[string][]byte{"root.crl": w.root.CRL(testca.CRL{Number: 1, RawEntries: many})})
	writeFile(t, filepath.Join(d.ca, "inter.pem"), w.inter.PEM())
	urls := []string{mute, slow.URL + "/slow.crl", "http://127.0.0.1:1/closed.crl"}
	for i := range 3 {
		urls = append(urls, fmt.Sprintf("%s?%d", mute, i))
	}
	urls = append(urls, server+"/inter.crl")
	o := verify.Options{StoreDir: storeDir(t), CRLURLs: urls}

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	reports, err := d.verifier(t, o).UpdateCRLs(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if asked("/inter.crl") != 1 {
		t.Errorf("the address behind the mute ones was asked %d times", asked("/inter.crl"))
	}
	indexed, lines := 0, map[string]string{}
	for _, r := range reports {
		if r.Indexed {
			indexed++
		}
		if r.Path == "" && r.Err != nil {
			lines[r.URL] += r.Err.Error()
		}
	}
	if indexed != 2 {
		t.Errorf("%d lists indexed: %+v", indexed, reports)
	}
	for _, url := range urls[:len(urls)-1] {
		want := "no answer in time"
		if strings.Contains(url, "closed") {
			want = "refused"
		}
		if !strings.Contains(lines[url], want) || strings.ContainsRune(lines[url], '\n') {
			t.Errorf("%s: %q", url, lines[url])
		}
	}
	if len(lines) != len(urls)-1 {
		t.Errorf("lines %q", lines)
	}
}

// TestFailureIsRemembered: a mute server costs its wait once, not at each login, and only as long as a
// stored list in date answers.
func TestFailureIsRemembered(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	now := time.Now()
	state := "here"
	step := func(name string, at time.Duration, want verify.Reason, requests int32) {
		t.Helper()
		before := o.asked.Load()
		err := o.login(t, dir, verify.Options{Now: func() time.Time { return now.Add(at) }}, func(h *store.Hooks) {
			h.State = func() string { return state }
		})
		if verify.ReasonOf(err) != want || (err == nil) != (want == "") {
			t.Errorf("%s: %v", name, err)
		}
		if n := o.asked.Load() - before; n != requests {
			t.Errorf("%s: %d requests, want %d", name, n, requests)
		}
	}
	dead := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) })
	step("first sight", 0, "", 1)
	o.inter.Store(dead)
	step("fails", 2*time.Hour, "", 1)
	step("remembered", 2*time.Hour+time.Minute, "", 0)
	step("fails again", 2*time.Hour+3*time.Minute, "", 1)
	step("remembered for longer", 2*time.Hour+6*time.Minute, "", 0)
	step("not for ever", 2*time.Hour+8*time.Minute, "", 1)
	state = "there"
	step("another network", 2*time.Hour+9*time.Minute, "", 1)
	step("remembered there", 2*time.Hour+10*time.Minute, "", 0)
	state = ""
	step("nobody knows where", 2*time.Hour+10*time.Minute, "", 1)
	state = "there"
	step("the clock was put back", time.Hour+30*time.Minute, "", 1)
	step("the stored list has run out", 30*time.Hour, verify.ReasonRevocationUnknown, 1)
	step("and each login asks", 30*time.Hour, verify.ReasonRevocationUnknown, 1)
	list := testca.CRL{Number: 6, ThisUpdate: now.Add(29 * time.Hour), NextUpdate: now.Add(99 * time.Hour)}
	o.inter.Store(serveCRL(o.world.inter.CRL(list)))
	o.root.Store(serveCRL(o.world.root.CRL(list)))
	step("it answers again", 30*time.Hour, "", 1)
	if left, _ := filepath.Glob(filepath.Join(dir, "crl", "*"+".failed")); len(left) != 0 {
		t.Errorf("still remembered: %v", left)
	}
}

// TestTimersPeriod: what the timer has asked is not asked by logins before its next run is due.
func TestTimersPeriod(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	now := time.Now()
	at := func(d time.Duration) verify.Options {
		return verify.Options{Now: func() time.Time { return now.Add(d) }}
	}
	list := testca.CRL{Number: 5, NextUpdate: now.Add(99 * time.Hour)}
	o.inter.Store(serveCRL(o.world.inter.CRL(list)))
	o.root.Store(serveCRL(o.world.root.CRL(list)))
	run := func(period, when time.Duration) {
		t.Helper()
		options := at(when)
		options.StoreDir, options.CRLPeriod, options.Policy = dir, period, verify.Policy{CRL: "online"}
		options.CRLURLs = []string{o.rootURL, o.interURL}
		ca := filepath.Join(t.TempDir(), "ca.pem")
		writeFile(t, ca, append(o.world.root.PEM(), o.world.inter.PEM()...))
		options.CADir, options.Policy.CA = ca, true
		v, err := verify.New(options)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.UpdateCRLs(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name   string
		period time.Duration // of a run now, 0 for none
		login  time.Duration
		asks   int32
	}{
		{"within the period", 6 * time.Hour, 5 * time.Hour, 0},
		{"it is due", 0, 6*time.Hour + time.Minute, 1},
		{"the login's own hour", 0, 7*time.Hour + 2*time.Minute, 1},
		{"a period that is not known", -1, 2 * time.Hour, 1},
		{"a period beyond the limit", 1000 * time.Hour, 25 * time.Hour, 1},
	} {
		if step.period != 0 {
			run(max(step.period, 0), 0)
		}
		before := o.asked.Load()
		if err := o.login(t, dir, at(step.login)); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if n := o.asked.Load() - before; n != step.asks {
			t.Errorf("%s: %d requests, want %d", step.name, n, step.asks)
		}
	}
	// A note whose time lies too far ahead is not believed.
	noteOn(t, dir, o.interURL, func(note map[string]any) {
		note["checked"], note["due"] = now, now.Add(1000*time.Hour)
	})
	before := o.asked.Load()
	if err := o.login(t, dir, at(50*time.Hour)); err != nil || o.asked.Load() == before {
		t.Errorf("a note for weeks: %v, %d requests", err, o.asked.Load()-before)
	}
}
