package verify_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// Debian's `openssl ocsp` as a real peer: its responder answers us, over HTTP and with our nonce; its client reads our
// requests.

// opensslResponder starts `openssl ocsp` on a port of the system's choice and gives its address.
func opensslResponder(t *testing.T, ca *testca.CA, signer *testca.Cert, revoked, good []*testca.Cert, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		write(t, path, data, 0o600)
		return path
	}
	var index bytes.Buffer
	soon := time.Now().AddDate(1, 0, 0).UTC().Format("060102150405Z")
	for _, c := range good {
		fmt.Fprintf(&index, "V\t%s\t\t%X\tunknown\t/CN=x\n", soon, c.Serial)
	}
	for _, c := range revoked {
		fmt.Fprintf(&index, "R\t%s\t%s,keyCompromise\t%X\tunknown\t/CN=x\n", soon, time.Now().UTC().Format("060102150405Z"), c.Serial)
	}
	args := []string{"ocsp", "-port", "0", "-index", file("index.txt", index.Bytes()), "-CA", file("ca.pem", ca.PEM()),
		"-rsigner", file("signer.pem", signer.PEM()), "-rkey", file("key.pem", signer.Key.PEM()), "-timeout", "20", "-nmin", "5"}
	cmd := exec.Command("openssl", append(args, more...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatalf("openssl ocsp (Debian package openssl): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	accept := regexp.MustCompile(`^ACCEPT .*:([0-9]+)`)
	lines := bufio.NewScanner(out)
	said := ""
	for lines.Scan() {
		if m := accept.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return "http://127.0.0.1:" + m[1] + "/"
		}
		said += lines.Text() + "\n"
	}
	t.Fatalf("openssl ocsp did not start: %s", said)
	return ""
}

func TestOpenSSLResponder(t *testing.T) {
	signing := testca.ExtKeyUsage(false, testca.OCSPSigning)
	keys := map[string]func() *testca.Key{
		"RSA": func() *testca.Key { return testca.RSA(2048, "openssl responder") },
		"EC":  testca.P256,
	}
	for name, key := range keys {
		root := testca.NewRoot("Root", testca.WithKey(key()))
		good, revoked, unknown := root.Leaf("Good"), root.Leaf("Revoked"), root.Leaf("Unknown")
		delegate := root.Leaf("Responder", testca.WithKey(key()), signing, testca.OCSPNoCheck())
		client := root.Leaf("Client", testca.WithKey(key()))
		tests := []struct {
			name   string
			signer *testca.Cert
			more   []string
			o      verify.OCSPOptions
			want   [3]verify.Reason // for good, revoked, unknown
		}{
			{
				name: "the CA", signer: &root.Cert,
				o:    verify.OCSPOptions{Nonce: verify.NonceRequired},
				want: [3]verify.Reason{"", verify.ReasonRevoked, verify.ReasonRevocationUnknown},
			},
			{
				name: "delegate", signer: delegate,
				o:    verify.OCSPOptions{Nonce: verify.NonceRequired},
				want: [3]verify.Reason{"", verify.ReasonRevoked, verify.ReasonRevocationUnknown},
			},
			{
				name: "delegate, by key, SHA-512", signer: delegate,
				more: []string{"-resp_key_id", "-rmd", "sha512"}, o: verify.OCSPOptions{},
				want: [3]verify.Reason{"", verify.ReasonRevoked, verify.ReasonRevocationUnknown},
			},
			{
				name: "delegate that is not sent along", signer: delegate,
				more: []string{"-resp_no_certs"}, o: verify.OCSPOptions{},
				want: [3]verify.Reason{verify.ReasonRevocationUnknown, verify.ReasonRevocationUnknown, verify.ReasonRevocationUnknown},
			},
			{
				name: "a certificate for clients", signer: client, o: verify.OCSPOptions{},
				want: [3]verify.Reason{verify.ReasonRevocationUnknown, verify.ReasonRevocationUnknown, verify.ReasonRevocationUnknown},
			},
			{
				name: "without nonce, by GET", signer: delegate,
				o:    verify.OCSPOptions{Nonce: verify.NonceOff},
				want: [3]verify.Reason{"", verify.ReasonRevoked, verify.ReasonRevocationUnknown},
			},
		}
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				tt.o.URLs = []string{opensslResponder(t, root, tt.signer, []*testca.Cert{revoked}, []*testca.Cert{good}, tt.more...)}
				v := withOCSP(t, verify.Options{OCSP: tt.o}, &root.Cert)
				for i, leaf := range []*testca.Cert{good, revoked, unknown} {
					_, err := v.Check(within(t, 20*time.Second), parsed(t, leaf), nil)
					if verify.ReasonOf(err) != tt.want[i] || (err == nil) != (tt.want[i] == "") {
						t.Errorf("certificate %d: %v", i, err)
					}
				}
			})
		}
	}
}
