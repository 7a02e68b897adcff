package certinfo

import (
	"crypto/x509"
	"slices"
	"testing"

	"pam_pkcs11/internal/testca"
)

// fuzzedExtensions are the extensions that are read.
var fuzzedExtensions = []string{"2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.32",
	"2.5.29.33", "2.5.29.35", "2.5.29.36", "2.5.29.37", "2.5.29.46", "2.5.29.54", "1.3.6.1.5.5.7.1.1", "1.3.6.1.4.1.311.25.2"}

// FuzzExtension puts one extension of any content into a certificate: what crypto/x509 reads as well, it reads alike.
func FuzzExtension(f *testing.F) {
	ca := testca.NewRoot("Root")
	for i, seed := range []testca.Option{
		testca.SubjectKeyID(1, 2), testca.KeyUsage(true, testca.KeyCertSign|testca.DigitalSignature), testca.SAN(testca.UPN("a@b"), testca.DNS("h"), testca.URI("http://x/")),
		testca.BasicConstraints(true, true, 3), testca.NameConstraints([][]byte{testca.DNS("a")}, [][]byte{testca.UPN("b"), testca.IP(1, 2, 3, 4, 255, 0, 0, 0)}),
		testca.DistributionPoints(testca.Point(testca.FullName(testca.URI("http://x")), 6, testca.Directory(testca.DN("CN=x"))), testca.Point(testca.RelativeName(testca.ParseAttribute("CN=1")), 0)),
		testca.Policies(false, "1.2.3", testca.AnyPolicy), testca.PolicyMappings("1.2", "1.3"), testca.AuthorityKeyID(1), testca.PolicyConstraints(0, 1),
		testca.ExtKeyUsage(true, testca.ClientAuth, testca.OCSPSigning), testca.FreshestCRL(testca.Point(testca.FullName(testca.URI("http://x")), 0)),
		testca.InhibitAnyPolicy(2), testca.InfoAccess([]string{"http://o/"}, []string{"http://c/"}), testca.SID("S-1-5-21-1"),
	} {
		var t testca.Template
		seed(&t)
		f.Add(uint8(i), t.Extensions[0].Critical, t.Extensions[0].Value)
	}
	f.Fuzz(func(t *testing.T, which uint8, critical bool, value []byte) {
		oid := fuzzedExtensions[int(which)%len(fuzzedExtensions)]
		der := ca.Bare("x", testca.WithKey(ca.Key), testca.WithExtension(oid, critical, value)).DER
		ours, err := Parse(der)
		if err != nil {
			return
		}
		checkWorst(t, ours)
		if e := ours.Extensions; len(e) != 1 || e[0].Critical != critical || string(e[0].Value) != string(value) {
			t.Fatalf("extensions %+v", e)
		}
		theirs, err := x509.ParseCertificate(der)
		if err != nil || ours.Extensions[0].Unusable != "" {
			return // what they read of it, and we do not, is none of our fields: checkWorst
		}
		compareExtensions(t, ours, theirs)
	})
}

func compareExtensions(t *testing.T, ours *Certificate, theirs *x509.Certificate) {
	if theirs.KeyUsage != 0 && int(ours.KeyUsage) != int(theirs.KeyUsage) {
		t.Errorf("key usage %b, theirs %b", ours.KeyUsage, theirs.KeyUsage)
	}
	if ours.BasicConstraintsValid != theirs.BasicConstraintsValid || ours.IsCA != theirs.IsCA {
		t.Errorf("CA %v, theirs %v", ours.IsCA, theirs.IsCA)
	}
	if theirs.IsCA && (theirs.MaxPathLen > 0 || theirs.MaxPathLenZero) && ours.MaxPathLen != theirs.MaxPathLen {
		t.Errorf("path length %d, theirs %d", ours.MaxPathLen, theirs.MaxPathLen)
	}
	if string(ours.SubjectKeyID) != string(theirs.SubjectKeyId) || string(ours.AuthorityKeyID) != string(theirs.AuthorityKeyId) {
		t.Error("key identifiers")
	}
	if n := len(theirs.ExtKeyUsage) + len(theirs.UnknownExtKeyUsage); n != len(ours.ExtKeyUsage) {
		t.Errorf("%d purposes, theirs %d", len(ours.ExtKeyUsage), n)
	}
	var hosts []string
	for _, n := range ours.SANs {
		if n.Tag == TagDNSName && n.OK {
			hosts = append(hosts, n.Text)
		}
	}
	for _, h := range hosts {
		if !slices.Contains(theirs.DNSNames, h) {
			t.Errorf("host %q is not among theirs %q", h, theirs.DNSNames)
		}
	}
	if len(theirs.PolicyIdentifiers) != len(ours.Policies) {
		t.Errorf("%d policies, theirs %d", len(ours.Policies), len(theirs.PolicyIdentifiers))
	}
}
