package mapper_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"pam_pkcs11/internal/ldapconn"
	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/mappertest"
)

// nameServer answers SRV questions for one name on loopback (RFC 1035, RFC 2782).
func nameServer(t *testing.T, records ...string) *net.Resolver {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			if len(records) == 1 && records[0] == "mute" {
				continue
			}
			_, _ = c.WriteTo(srvAnswer(buffer[:n], records), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", c.LocalAddr().String())
	}}
}

// srvAnswer gives each record, written "priority weight port target".
func srvAnswer(question []byte, records []string) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5
	out := append([]byte{}, question[:end]...)
	out[2], out[3] = 0x84, 0x00
	binary.BigEndian.PutUint16(out[6:], uint16(len(records)))
	binary.BigEndian.PutUint16(out[8:], 0)
	binary.BigEndian.PutUint16(out[10:], 0)
	for _, r := range records {
		var priority, weight, port uint16
		var target string
		if _, err := fmt.Sscan(r, &priority, &weight, &port, &target); err != nil {
			panic(err)
		}
		data := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, priority), weight), port)
		for label := range strings.SplitSeq(strings.TrimSuffix(target, "."), ".") {
			data = append(append(data, byte(len(label))), label...)
		}
		data = append(data, 0)
		out = append(out, 0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60)
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(data))), data...)
	}
	return out
}

func TestServersOfADomain(t *testing.T) {
	alice := testca.NewRoot("Users CA").Leaf("Alice")
	cert := mappertest.Parsed(t, alice)
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", alice.DER)))
	_, port, _ := strings.Cut(strings.TrimPrefix(s.LDAP, "ldap://"), ":")
	_, tlsPort, _ := strings.Cut(strings.TrimPrefix(s.LDAPS, "ldaps://"), ":")
	caFile := writeFile(t, "ca.pem", s.CA.PEM(), 0o644)
	cases := []struct {
		name     string
		records  []string
		settings []string
		want     string
		says     string
	}{
		{name: "one", records: []string{"0 0 " + port + " localhost."}, want: "alice"},
		{name: "the second by priority", records: []string{"20 0 " + port + " localhost.", "10 0 1 localhost."}, want: "alice"},
		{
			name: "LDAPS", records: []string{"0 0 " + tlsPort + " localhost."},
			settings: []string{"ssl", "ssl", "tls_cacertfile", caFile}, want: "alice",
		},
		{name: "none", says: "SRV records"},
		{name: "of another domain", records: []string{"0 0 " + port + " evil.example."}, says: "no server in that domain"},
		{name: "no service", records: []string{"0 0 0 ."}, says: "SRV records"},
		{name: "mute name server", records: []string{"mute"}, says: "SRV records"},
		{name: "a written server beside none", settings: []string{"uri", s.LDAP}, want: "alice"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			settings := append([]string{"srv_domain", "localhost"}, c.settings...)
			chain := ldapChain(t, mapper.Options{Resolver: nameServer(t, c.records...)}, ldapBlock(t, "ldap", settings...))
			got, words := verdict(t, chain, cert, "")
			if got != c.want || !strings.Contains(words, c.says) {
				t.Errorf("got %q: %s", got, words)
			}
		})
	}
}

func TestReferrals(t *testing.T) {
	alice := testca.NewRoot("Users CA").Leaf("Alice")
	cert := mappertest.Parsed(t, alice)
	s := slapdtest.Start(t, slapdtest.Person("alice", 2001, binaryLine("userCertificate;binary", alice.DER)))
	refer := func(to func() string) string {
		return slapdtest.Hostile(t, func(r slapdtest.Request, w io.Writer) bool {
			if r.Op != slapdtest.SearchRequest {
				return slapdtest.Polite(r, w)
			}
			_, _ = w.Write(slapdtest.Result(r.ID, slapdtest.SearchDone, 10, testca.TLV(0xa3, testca.TLV(4, []byte(to())))))
			return true
		})
	}
	base := "/ou=People," + slapdtest.Suffix
	one := refer(func() string { return s.LDAP + base })
	two := refer(func() string { return one + base })
	var self string
	count := 0
	self = refer(func() string { count++; return fmt.Sprintf("%s/ou=%d", self, count) })
	same := ""
	same = refer(func() string { return same + base })
	for name, c := range map[string]struct {
		uri, follow, want, says string
	}{
		"not followed":             {one, "false", "", "no"},
		"followed":                 {one, "true", "alice", ""},
		"followed twice":           {two, "true", "alice", ""},
		"a loop":                   {self, "true", "", "lead on after"},
		"a loop on the same URL":   {same, "true", "", "no"},
		"another kind of URL":      {refer(func() string { return "http://x/" }), "true", "", "not understood"},
		"with a filter of its own": {refer(func() string { return s.LDAP + base + "??sub?(uid=*)" }), "true", "", "filter"},
	} {
		got, words := verdict(t, ldapChain(t, mapper.Options{}, ldapBlock(t, "ldap", "uri", c.uri, "referrals", c.follow)), cert, "")
		if got != c.want || !strings.Contains(words, c.says) {
			t.Errorf("%s: got %q (%s)", name, got, words)
		}
	}
	d, err := directoryOf(t, ldapBlock(t, "ldap", "uri", s.LDAP, "ssl", "off", "binddn", "cn=x", "passwd", "x", "referrals", "true"), mapper.Options{Logger: nilLogger()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.AskReferred(ldapContext(t), d.Conn, ldapconn.Query{}, "ldap://attacker.example/"); err == nil || !strings.Contains(err.Error(), "password does not go") {
		t.Errorf("an attacker's server: %v", err)
	}
}
