package crl

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
)

func TestParseCRLRefuses(t *testing.T) {
	ca := testca.NewRoot("Root")
	for name, tt := range map[string]struct {
		crl  testca.CRL
		text string
	}{
		"extensions in version 1":       {testca.CRL{V1: true, Number: 1}, "version 1"},
		"entry extensions in version 1": {testca.CRL{V1: true, Entries: []testca.Revoked{{Serial: []byte{1}, Reason: 1}}}, "version 1"},
		"two scopes":                    {testca.CRL{IDP: testca.IDP{OnlyCA: true, OnlyUser: true}.DER()}, "issuingDistributionPoint"},
		"certificateIssuer twice": {testca.CRL{Entries: []testca.Revoked{{Serial: []byte{1}, Reason: -1, Issuer: testca.DN("CN=a"),
			Extensions: []testca.Extension{{OID: oidCertificateIssuer, Critical: true, Value: testca.Sequence(testca.Directory(testca.DN("CN=b")))}}}}},
			"certificateIssuer is there twice"},
		"serial not minimal": {testca.CRL{Entries: []testca.Revoked{{Serial: []byte{0, 1}}}}, "serial"},
		"negative number":    {testca.CRL{Number: -1}, "number"},
	} {
		if _, err := scanBytes(ca.CRL(tt.crl), nil, nil); err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func scanBytes(der []byte, asked *SerialSet, visitor Visitor) (*Scan, error) {
	return ScanDER(bytes.NewReader(der), int64(len(der)), asked, visitor)
}

// FuzzCRL holds our reading against that of the standard library: what both read has the same entries.
func FuzzCRL(f *testing.F) {
	ca := testca.NewRoot("Root")
	f.Add(ca.CRL(testca.CRL{Number: 3, Entries: []testca.Revoked{{Serial: []byte{1}, Reason: 1}, {Serial: []byte{2}, Reason: -1}}}))
	f.Add(ca.CRL(testca.CRL{V1: true, NoNextUpdate: true}))
	f.Add(ca.CRL(testca.CRL{Number: 3, DeltaBase: 2, IDP: testca.IDP{Name: testca.FullName(testca.URI("http://x")), Indirect: true, Reasons: 6}.DER(),
		Entries: []testca.Revoked{{Serial: []byte{1}, Issuer: testca.DN("CN=x")}}}))
	f.Fuzz(func(t *testing.T, der []byte) {
		type entry struct {
			serial string
			reason int
			when   int64
		}
		var entries []entry
		ours, err := scanBytes(der, nil, func(_ string, serial []byte, reason int, when int64) error {
			entries = append(entries, entry{string(serial), reason, when})
			return nil
		})
		if err != nil {
			return
		}
		std, err := x509.ParseRevocationList(der)
		if err != nil {
			return
		}
		if !ours.ThisUpdate.Equal(std.ThisUpdate) || !ours.NextUpdate.Equal(std.NextUpdate) || !bytes.Equal(ours.RawIssuer, std.RawIssuer) ||
			!bytes.Equal(ours.signature, std.Signature) {
			t.Errorf("%+v, %+v", ours.Head, std)
		}
		if (ours.Number == nil) != (std.Number == nil) || ours.Number != nil && ours.Number.Cmp(std.Number) != 0 {
			t.Errorf("number %v, %v", ours.Number, std.Number)
		}
		if ours.Count != len(entries) || len(entries) != len(std.RevokedCertificateEntries) {
			t.Fatalf("%d entries, %d told, the standard library has %d", ours.Count, len(entries), len(std.RevokedCertificateEntries))
		}
		for i, e := range std.RevokedCertificateEntries {
			reason := e.ReasonCode
			if !hasExtension(e, oidReasonCode) {
				reason = certinfo.CRLReasonAbsent
			}
			if entries[i].reason == certinfo.CRLReasonUnread {
				reason = certinfo.CRLReasonUnread // theirs is the last of several, or what stands before other octets
			}
			if want := (entry{string(serialOctets(e.SerialNumber)), reason, e.RevocationTime.Unix()}); entries[i] != want {
				t.Errorf("entry %d: %v, the standard library has %v", i, entries[i], want)
			}
		}
	})
}

func hasExtension(e x509.RevocationListEntry, oid string) bool {
	for _, x := range e.Extensions {
		if x.Id.String() == oid {
			return true
		}
	}
	return false
}

func serialOctets(n *big.Int) []byte { return testca.Integer(n)[2:] }

// The pass gives the same however the octets come, and its answers are those of every entry.
func TestScanInPieces(t *testing.T) {
	const n = 30000
	der := testca.NewRoot("Root").CRL(testca.CRL{Number: 9, RawEntries: testca.ManyRevoked(n)})
	var asked *SerialSet
	for _, i := range []int{0, 1, 2, 777, n - 1} {
		serial := testca.Lottery(i)
		asked = asked.with(serial[:])
	}
	absent := testca.Lottery(n)
	asked = asked.with(absent[:])
	whole, err := scanBytes(der, asked, nil)
	if err != nil {
		t.Fatal(err)
	}
	if whole.Count != n || len(whole.found) != 5 || len(whole.digest) != 32 {
		t.Errorf("%d entries, %d found", whole.Count, len(whole.found))
	}
	for name, in := range map[string]io.Reader{
		"one by one": iotest.OneByteReader(bytes.NewReader(der)), "halves": iotest.HalfReader(bytes.NewReader(der)),
		"error with the data": iotest.DataErrReader(bytes.NewReader(der)), "PEM": newPEMReader(bytes.NewReader(testca.PEMLines(der, 70, "\n")[len(pemCRL)+1:len(testca.PEMLines(der, 70, "\n"))-23]), -1),
	} {
		for _, size := range []int64{-1, int64(len(der))} {
			if name != "one by one" && size >= 0 {
				continue
			}
			got, err := ScanDER(in, size, asked, nil)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
			if fmt.Sprint(got.found) != fmt.Sprint(whole.found) || !bytes.Equal(got.digest, whole.digest) || !bytes.Equal(got.signature, whole.signature) {
				t.Errorf("%s differs", name)
			}
			break
		}
	}
	if _, err := ScanDER(io.MultiReader(bytes.NewReader(der), strings.NewReader("x")), -1, nil, nil); err == nil || !strings.Contains(err.Error(), "trailing") {
		t.Errorf("trailing data: %v", err)
	}
	for _, cut := range []int{0, 1, 20, 300, 5000, windowChunk, windowChunk + 1, len(der) - 1} {
		if _, err := ScanDER(bytes.NewReader(der[:cut]), -1, nil, nil); err == nil {
			t.Errorf("cut at %d: no error", cut)
		}
		if _, err := ScanDER(io.MultiReader(bytes.NewReader(der[:cut]), iotest.ErrReader(io.ErrNoProgress)), -1, nil, nil); err == nil {
			t.Errorf("failed at %d: no error", cut)
		}
	}
}

func TestUnixOf(t *testing.T) {
	for year := 0; year < 100; year++ {
		for month := 1; month <= 12; month++ {
			text := fmt.Sprintf("%02d%02d%02d061728Z", year, month, 1+(year+month)%28)
			if !isFastTime([]byte(text)) {
				t.Fatalf("%s is not plain", text)
			}
			century := "19"
			if year < 50 {
				century = "20"
			}
			want, err := time.Parse("20060102150405Z", century+text)
			if err != nil {
				t.Fatal(err)
			}
			if got := unixOf([]byte(text)); got != want.Unix() {
				t.Errorf("%s: %d, want %d", text, got, want.Unix())
			}
		}
	}
	for _, text := range []string{"250001000000Z", "251301000000Z", "250100000000Z", "250101240000Z", "250101006000Z", "250101000060Z", "25010100000:Z", "2501010000/0Z", "2501 1000000Z", "250101000000z"} {
		if isFastTime([]byte(text)) {
			t.Errorf("%s is plain", text)
		}
	}
}
