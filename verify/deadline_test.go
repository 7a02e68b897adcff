package verify_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch/fetchtest"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// lateServers are servers from which no answer comes in time.
func lateServers(t *testing.T, body []byte) []fetchtest.Late {
	t.Helper()
	all, end, err := fetchtest.AllLate(body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return all
}

// TestNetworkDeadline: whatever servers do, the verdict is there at the deadline. It comes verdictReserve before it, and what
// follows takes a few milliseconds, so on an idle machine it is within 100 ms, which `make bench-crl` measures; a machine
// that is busy with other tests gets more here.
func TestNetworkDeadline(t *testing.T) {
	const timeout = 800 * time.Millisecond
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	servers := lateServers(t, inter.CRL(testca.CRL{RawEntries: testca.ManyRevoked(100)}))
	var everyURL, everyWeb []string
	for _, s := range servers {
		if everyURL = append(everyURL, s.URL); !s.LDAP {
			everyWeb = append(everyWeb, s.URL)
		}
	}
	var group sync.WaitGroup // all at once: they only wait
	for _, s := range append(servers, fetchtest.Late{Name: "all of them at once"}) {
		crls, responders := []string{s.URL}, []string{s.URL}
		if s.URL == "" {
			crls, responders, s.Resolver = everyURL, everyWeb, servers[5].Resolver
		}
		for _, word := range []string{"crl", "crl_url", "ocsp", "ocsp and crl"} {
			asksOCSP, asksCRL := word[0] == 'o', word != "ocsp"
			if s.LDAP && asksOCSP {
				continue
			}
			for _, soft := range []bool{false, true} {
				o := verify.Options{Soft: soft, Policy: verify.Policy{OCSP: asksOCSP}}
				if s.Resolver != nil {
					o.Resolver = s.Resolver()
				}
				var names []testca.Option
				if asksOCSP {
					names = append(names, testca.InfoAccess(responders, nil))
				}
				if asksCRL {
					o.Policy.CRL = "online"
				}
				if word == "crl_url" {
					o.CRLURLs = crls
				} else if asksCRL {
					names = append(names, testca.CRLDistribution(crls...))
				}
				check := timedCheck(t, o, root, inter, names...)
				group.Go(func() {
					allowed := slowtest.Allowance()
					took, err := check(timeout)
					// What a check keeps for itself at its end is over where the machine lets it wait
					// for longer: then the servers had no part in it.
					for tries := 0; tries < 10 && verify.ReasonOf(err) == verify.ReasonWork && allowed() > verify.VerdictReserve; tries++ {
						allowed = slowtest.Allowance()
						took, err = check(timeout)
					}
					if want := map[bool]verify.Reason{false: verify.ReasonRevocationUnknown, true: ""}[soft]; verify.ReasonOf(err) != want || (err == nil) != soft {
						t.Errorf("%s, %s, soft=%v: %v", s.Name, word, soft, err)
					}
					if took > timeout+2*time.Second+allowed() || took < timeout-150*time.Millisecond {
						t.Errorf("%s, %s, soft=%v: the verdict came after %v, the deadline was %v: %v", s.Name, word, soft, took, timeout, err)
					}
				})
			}
		}
	}
	group.Wait()
}

// timedCheck prepares the check of a leaf of inter that has these options, with a deadline.
func timedCheck(t *testing.T, o verify.Options, root, inter *testca.CA, leaf ...testca.Option) func(timeout time.Duration) (time.Duration, error) {
	t.Helper()
	o.Hooks().Local = true
	v := trusting(t, o, &root.Cert)
	if checker := v.OCSP(); checker != nil {
		checker.Local = true
	}
	cert := parsed(t, inter.Leaf("Alice", leaf...))
	card := []*certinfo.Certificate{parsed(t, &inter.Cert)}
	return func(timeout time.Duration) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		started := time.Now()
		_, err := v.Check(ctx, cert, card)
		return time.Since(started), err
	}
}

// TestDeadServersCostNothing: who refuses the connection, or whose name is not known, is not waited for.
func TestDeadServersCostNothing(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	names, err := fetchtest.NameServer(map[string][]netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	for _, resolver := range []*net.Resolver{nil, names.Resolver()} {
		url := deadURL(t)
		if resolver != nil {
			url = "http://unknown.example/x"
		}
		o := verify.Options{Policy: verify.Policy{CRL: "online", OCSP: true}, Resolver: resolver}
		took, err := timedCheck(t, o, root, inter, testca.CRLDistribution(url), testca.InfoAccess([]string{url}, nil))(20 * time.Second)
		if verify.ReasonOf(err) != verify.ReasonRevocationUnknown || took > 5*time.Second {
			t.Errorf("%s: %v after %v", url, err, took)
		}
	}
}
