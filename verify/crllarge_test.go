package verify_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch/fetchtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// largeCRL is a signed CRL that is made while it is read: head, the entries of block so many times, tail.
type largeCRL struct {
	head, block, tail []byte
	times             int
}

// newLargeCRL is a list of ca, whose key is of P-256, with 1000 entries so many times and one for the serial number.
func newLargeCRL(t *testing.T, ca *testca.CA, times int, serial []byte) largeCRL {
	t.Helper()
	l := largeCRL{block: testca.ManyRevoked(1000), times: times}
	now := time.Now().Truncate(time.Second)
	last := testca.Sequence(testca.TLV(2, serial), testca.Time(now))
	algorithm := testca.Sequence(testca.OID("1.2.840.10045.4.3.2"))
	fields := bytes.Join([][]byte{testca.Number(1), algorithm, ca.Subject, testca.Time(now.Add(-time.Hour)), testca.Time(now.Add(time.Hour))}, nil)
	sequence := func(n int) []byte { return binary.BigEndian.AppendUint32([]byte{0x30, 0x84}, uint32(n)) } // from 16 MiB on
	entries := times*len(l.block) + len(last)
	inner := append(fields, sequence(entries)...)
	tbs := append(sequence(len(inner)+entries), inner...)
	sum := sha256.New()
	sum.Write(tbs)
	for range times {
		sum.Write(l.block)
	}
	sum.Write(last)
	signature, err := ca.Key.Private.Sign(rand.Reader, sum.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	l.tail = append(bytes.Clone(last), append(algorithm, testca.TLV(3, []byte{0}, signature)...)...)
	l.head = append(sequence(len(tbs)+entries+len(l.tail)-len(last)), tbs...)
	return l
}

func (l largeCRL) size() int64 {
	return int64(len(l.head)) + int64(l.times)*int64(len(l.block)) + int64(len(l.tail))
}

// ServeHTTP sends it without its length.
func (l largeCRL) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Transfer-Encoding", "chunked")
	if _, err := w.Write(l.head); err != nil {
		return
	}
	for range l.times {
		if _, err := w.Write(l.block); err != nil {
			return
		}
	}
	_, _ = w.Write(l.tail)
}

// peak is the most memory of this process, in KiB.
func peak(t *testing.T, failed error) int64 {
	t.Helper()
	kib, err := fetchtest.PeakMemory()
	if err := errors.Join(failed, err); err != nil {
		t.Fatal(err)
	}
	return kib
}

// TestLargeCRLs: three million entries are read like three; more than crl_max_size, 512 MiB by default, is refused
// while it comes, in memory that does not grow, also when the list is signed and all. It runs beside no other test.
func TestLargeCRLs(t *testing.T) {
	root := testca.NewRoot("Root")
	inter := root.Intermediate("Inter")
	alice := testca.Serial(0x41, 1)
	for _, tt := range []struct {
		name   string
		times  int
		listed []byte
		most   int64
		want   verify.Reason
		text   string
	}{
		{name: "3 M entries", times: 3000, listed: []byte{9}},
		{
			name: "3 M entries, the last one revokes", times: 3000, listed: []byte{0x41, 1},
			want: verify.ReasonRevoked,
		},
		{
			name: "a gigabyte", times: 27000, listed: []byte{9},
			want: verify.ReasonRevocationUnknown, text: "larger than allowed",
		},
		{
			name: "more than crl_max_size", times: 3000, listed: []byte{9}, most: 100 << 20,
			want: verify.ReasonRevocationUnknown, text: "larger than allowed",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := newLargeCRL(t, inter, tt.times, tt.listed)
			if tt.times == 27000 && list.size() < 1<<30 {
				t.Fatalf("%d octets", list.size())
			}
			server := httptest.NewServer(list)
			defer server.Close()
			check := timedCheck(t, verify.Options{Policy: verify.Policy{CRL: "online"}, CRLLeafOnly: true, MaxCRLSize: tt.most}, root, inter, alice, testca.CRLDistribution(server.URL))
			before := peak(t, fetchtest.ForgetPeak())
			took, err := check(time.Minute)
			if verify.ReasonOf(err) != tt.want || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
			if grown := peak(t, nil) - before; grown > 16<<10 {
				t.Errorf("memory grew by %d KiB", grown)
			}
			t.Logf("%d octets, %v", list.size(), took.Round(time.Millisecond))
		})
	}
}

// TestCRLByName: a distribution point on a host that has IPv6 alone, by a proxy, and names that lead to this machine.
func TestCRLByName(t *testing.T) {
	root := testca.NewRoot("Root")
	list := root.CRL(testca.CRL{})
	names, err := fetchtest.NameServer(map[string][]netip.Addr{"six.example": {netip.MustParseAddr("::1")}, "meta.example": {netip.MustParseAddr("169.254.169.254")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	serve := func(l net.Listener) { go func() { _ = http.Serve(l, serveCRL(list)) }() }
	check := func(url string, local bool, o verify.Options) error {
		o.Policy.CRL, o.Resolver = "online", names.Resolver()
		o.Hooks().Local = local
		v := trusting(t, o, &root.Cert)
		_, err := v.Check(within(t, 20*time.Second), parsed(t, root.Leaf("Alice", testca.CRLDistribution(url))), []*certinfo.Certificate{})
		return err
	}
	four, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	serve(four)
	if err := check("http://crl.example/x.crl", false, verify.Options{Proxy: "http://" + four.Addr().String()}); err != nil {
		t.Errorf("by a proxy: %v", err)
	}
	for _, url := range []string{"http://localhost:1/x", "http://169.254.169.254/latest", "http://meta.example/latest", "http://six.example:1/x", "http://[fe80::1]/x", "ldap://localhost/cn=x?certificateRevocationList", "ldap://meta.example/cn=x?certificateRevocationList"} {
		if err := check(url, false, verify.Options{}); verify.ReasonOf(err) != verify.ReasonRevocationUnknown || !strings.Contains(err.Error(), "not allowed") {
			t.Errorf("%s: %v", url, err)
		}
	}
	six, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Logf("THIS MACHINE HAS NO IPv6 (%v): only the choice of the address is tested", err)
		if err := check("http://six.example:1/x", true, verify.Options{}); err == nil || !strings.Contains(err.Error(), "[::1]:1") {
			t.Errorf("got %v", err)
		}
		return
	}
	defer six.Close()
	serve(six)
	_, port, _ := net.SplitHostPort(six.Addr().String())
	for _, host := range []string{"six.example", "[::1]"} {
		if err := check("http://"+host+":"+port+"/x.crl", true, verify.Options{}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}
