package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
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
			time.Sleep(time.Millisecond)
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
	o := Options{StoreDir: storeDir(t), CRLURLs: urls}

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

// TestUpdateAsksFailedLast: more mute addresses than are asked at once stand first, and the time is
// short. What failed stands behind what has never been asked at the next run.
func TestUpdateAsksFailedLast(t *testing.T) {
	w := newWorld()
	d := newOnDisk(t, w, map[string][]byte{"root.crl": w.root.CRL(testca.CRL{Number: 1})})
	store := openStore(storeDir(t))
	v := d.verifier(t, Options{StoreDir: store.dir, CRLURLs: []string{"http://a/1", "http://a/2", "http://a/3"}})
	u := &crlUpdate{v: v, store: store, fetcher: newCRLFetcher(v, store)}
	if err := store.fs.mkdir(store.path(crlDirName)); err != nil {
		t.Fatal(err)
	}
	order := func() (text string) {
		all := u.addresses()
		u.failedLast(all)
		for _, a := range all {
			text += a.url[len(a.url)-1:]
		}
		return text
	}
	now := time.Now()
	for i, step := range []struct {
		fails string
		want  string
	}{{"", "123"}, {"1", "231"}, {"2", "312"}, {"1", "321"}} {
		v.options.Now = func() time.Time { return now.Add(time.Duration(i) * time.Minute) }
		if step.fails != "" {
			u.fetcher.remember(t.Context(), "http://a/"+step.fails, errors.New("no"))
		}
		if got := order(); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	u.fetcher.remember(t.Context(), "http://a/1", nil)
	if got := order(); got != "132" {
		t.Errorf("after a success: %s", got)
	}
	// That somebody ended the run says nothing about a server.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	u.fetcher.remember(ended, "http://a/3", errors.New("no"))
	if got := order(); got != "132" {
		t.Errorf("after the end of the run: %s", got)
	}
}

// TestFailureIsRemembered: a mute server costs its wait once, not at each login, and only as long as a
// stored list in date answers.
func TestFailureIsRemembered(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	now := time.Now()
	state := "here"
	step := func(name string, at time.Duration, want Reason, requests int32) {
		t.Helper()
		before := o.asked.Load()
		err := o.login(t, dir, Options{Now: func() time.Time { return now.Add(at) }}, func(f *crlFetcher) {
			f.state = func() string { return state }
		})
		if ReasonOf(err) != want || (err == nil) != (want == "") {
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
	step("the stored list has run out", 30*time.Hour, ReasonRevocationUnknown, 1)
	step("and each login asks", 30*time.Hour, ReasonRevocationUnknown, 1)
	list := testca.CRL{Number: 6, ThisUpdate: now.Add(29 * time.Hour), NextUpdate: now.Add(99 * time.Hour)}
	o.inter.Store(serveCRL(o.world.inter.CRL(list)))
	o.root.Store(serveCRL(o.world.root.CRL(list)))
	step("it answers again", 30*time.Hour, "", 1)
	if left, _ := filepath.Glob(filepath.Join(dir, crlDirName, "*"+failureSuffix)); len(left) != 0 {
		t.Errorf("still remembered: %v", left)
	}
}

func TestFailureIsSparedAtMost(t *testing.T) {
	for count, want := range map[int]time.Duration{1: 2 * time.Minute, 2: 4 * time.Minute, 4: 16 * time.Minute, 5: longestSpared, 1 << 40: longestSpared} {
		if got := (&failure{Count: count}).spares(); got != want {
			t.Errorf("%d: %s, want %s", count, got, want)
		}
	}
}

// TestTimersPeriod: what the timer has asked is not asked by logins before its next run is due.
func TestTimersPeriod(t *testing.T) {
	o := newOnline(t)
	dir := storeDir(t)
	now := time.Now()
	at := func(d time.Duration) Options { return Options{Now: func() time.Time { return now.Add(d) }} }
	list := testca.CRL{Number: 5, NextUpdate: now.Add(99 * time.Hour)}
	o.inter.Store(serveCRL(o.world.inter.CRL(list)))
	o.root.Store(serveCRL(o.world.root.CRL(list)))
	run := func(period, when time.Duration) {
		t.Helper()
		options := at(when)
		options.StoreDir, options.CRLPeriod, options.Policy = dir, period, Policy{CRL: "online"}
		options.CRLURLs = []string{o.rootURL, o.interURL}
		ca := filepath.Join(t.TempDir(), "ca.pem")
		writeFile(t, ca, append(o.world.root.PEM(), o.world.inter.PEM()...))
		options.CADir, options.Policy.CA = ca, true
		v, err := New(options)
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
	store := openStore(dir)
	note := store.origin(o.interURL)
	note.Checked, note.Due = now, now.Add(1000*time.Hour)
	if err := store.writeJSON(store.urlPath(o.interURL, ".json"), note); err != nil {
		t.Fatal(err)
	}
	before := o.asked.Load()
	if err := o.login(t, dir, at(50*time.Hour)); err != nil || o.asked.Load() == before {
		t.Errorf("a note for weeks: %v, %d requests", err, o.asked.Load()-before)
	}
}

func TestDefaultRoutes(t *testing.T) {
	const v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" +
		"eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
	const none = "00000000000000000000000000000000"
	const gate = "fe800000000000000000000000000001"
	v6 := none + " 00 " + none + " 00 " + gate + " 00000400 00000002 00000009 00000003     eth0\n" +
		none + " 00 " + none + " 00 " + none + " ffffffff 00000001 00000000 00200200       lo\n" +
		"fe800000000000000000000000000000 40 " + none + " 00 " + none + " 00000100 00000001 00000000 00000001     eth0\n"
	want := "0102A8C0 eth0\n" + gate + " eth0"
	if got := defaultRoutes(v4, v6); got != want {
		t.Errorf("got %q", got)
	}
	counted := strings.ReplaceAll(v6, "00000009", "0000ffff")
	if got := defaultRoutes(v4, counted); got != want {
		t.Errorf("counters count: %q", got)
	}
	for _, odd := range []string{"", "\n", "eth0", "eth0 00000000", strings.Repeat("00000000 ", 7), "\x00\xff"} {
		if got := defaultRoutes(odd, odd); got != "" {
			t.Errorf("%q: %q", odd, got)
		}
	}
	if _, err := os.Stat("/proc/net/route"); err == nil && machineState() == "" {
		t.Error("nothing is known of this machine")
	}
}

func FuzzDefaultRoutes(f *testing.F) {
	f.Add("eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "00000000000000000000000000000000 00 x 00 g 1 2 3 4 eth0\n")
	f.Fuzz(func(t *testing.T, v4, v6 string) {
		for _, line := range strings.Split(defaultRoutes(v4, v6), "\n") {
			if n := len(strings.Fields(line)); n != 0 && n != 2 {
				t.Errorf("%q", line)
			}
		}
	})
}
