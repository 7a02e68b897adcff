package piv

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/testca"
)

// TestOpenSCTakesItForAPIVCard: the card out of the box, as the demo has it.
func TestOpenSCTakesItForAPIVCard(t *testing.T) {
	w := newWorld(t, simulation, "sim:piv")
	w.says("Virtual PIV Reader 00 00", "opensc-tool", "--list-readers")
	w.says("3b:95:96:80:31:fe:45:80:73:c0:01:c0:fb", "opensc-tool", "--atr")
	w.says("Personal Identity Verification Card", "opensc-tool", "--name")
	w.says("Personal Identity Verification Card", "piv-tool", "--name")
	if out := w.run("pkcs11-tool", "--list-objects"); strings.Count(out, "Certificate Object") != 4 {
		t.Errorf("not four certificates:\n%s", out)
	}
	out := w.run("pkcs11-tool", "--login", "--pin", "123456", "--test")
	if !strings.Contains(out, "No errors") {
		t.Error(out)
	}
	if out := w.run("pkcs15-tool", "--dump"); strings.Count(out, "Private RSA Key") != 2 || strings.Count(out, "Private EC Key") != 2 {
		t.Error(out)
	}
	w.signs("01", "SHA256-RSA-PKCS")
	w.signs("02", "ECDSA-SHA256") // the key that wants the PIN each time
	w.signs("04", "ECDSA-SHA256")
	w.decrypts("03")
}

// certificate reads a certificate from the card.
func (w *world) certificate(id string) *x509.Certificate {
	w.t.Helper()
	w.run("pkcs11-tool", "--read-object", "--type", "cert", "--id", id, "--output-file", "cert.der")
	c, err := x509.ParseCertificate(w.read("cert.der"))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// signs has the card sign something and verifies it with the certificate beside the key.
func (w *world) signs(id, mechanism string) {
	w.t.Helper()
	message := []byte("a message of some length")
	w.write("message", message)
	w.run("pkcs11-tool", "--login", "--pin", "123456", "--sign", "--id", id, "--mechanism", mechanism,
		"--signature-format", "openssl", "--input-file", "message", "--output-file", "signature")
	algorithm := x509.SHA256WithRSA
	if strings.HasPrefix(mechanism, "ECDSA") {
		algorithm = x509.ECDSAWithSHA256
	}
	if err := w.certificate(id).CheckSignature(algorithm, message, w.read("signature")); err != nil {
		w.t.Errorf("key %s: %v", id, err)
	}
}

// decrypts has the card decrypt what was encrypted for its certificate.
func (w *world) decrypts(id string) {
	w.t.Helper()
	message := []byte("a secret")
	public, ok := w.certificate(id).PublicKey.(*rsa.PublicKey)
	if !ok {
		w.t.Fatalf("key %s is not RSA", id)
	}
	// PKCS #1 v1.5 with a padding that is always the same: RSA is done here by hand, since only the card is on trial.
	padded := append([]byte{0, 2}, bytes.Repeat([]byte{0x55}, public.Size()-3-len(message))...)
	padded = append(append(padded, 0), message...)
	w.write("encrypted", rawRSA(public, padded))
	w.run("pkcs11-tool", "--login", "--pin", "123456", "--decrypt", "--id", id, "--mechanism", "RSA-PKCS",
		"--input-file", "encrypted", "--output-file", "decrypted")
	if got := w.read("decrypted"); !bytes.Equal(got, message) {
		w.t.Errorf("key %s decrypts to %q", id, got)
	}
}

// TestPINAndPUK: a wrong PIN is counted, three block the card, the PUK opens it again.
func TestPINAndPUK(t *testing.T) {
	w := newWorld(t, simulation, "sim:piv")
	login := func(pin string) []string { return []string{"--login", "--pin", pin, "--list-objects"} }
	w.says("Private Key Object", "pkcs11-tool", login("123456")...)
	w.refused("CKR_PIN_INCORRECT", "pkcs11-tool", login("654321")...)
	w.says("SW1=0x63, SW2=0xC2", "opensc-tool", "--send-apdu", "00:20:00:80")
	w.says("Private Key Object", "pkcs11-tool", login("123456")...)

	w.says("PIN successfully changed", "pkcs11-tool", "--login", "--pin", "123456", "--change-pin", "--new-pin", "87654321")
	w.refused("CKR_PIN_INCORRECT", "pkcs11-tool", login("123456")...)
	w.says("Private Key Object", "pkcs11-tool", login("87654321")...)

	for range 2 {
		w.refused("CKR_PIN_INCORRECT", "pkcs11-tool", login("123456")...)
	}
	w.refused("CKR_PIN_", "pkcs11-tool", login("123456")...)
	w.refused("CKR_PIN_LOCKED", "pkcs11-tool", login("87654321")...)
	w.run("pkcs15-tool", "--unblock-pin", "--auth-id", "01", "--puk", "12345678", "--new-pin", "123456")
	w.says("Private Key Object", "pkcs11-tool", login("123456")...)
}

// received is what opensc-tool and piv-tool print of an answer.
var received = regexp.MustCompile(`Received \(SW1=0x([0-9A-F]{2}), SW2=0x([0-9A-F]{2})\)(?::?\n((?:(?:[0-9A-F]{2} )+.*\n?)*))?`)

// administers sends commands after piv-tool has authenticated as administrator, and returns the last answer.
func (w *world) administers(apdus ...string) []byte {
	w.t.Helper()
	args := []string{"--admin", "M:9B:03"}
	for _, apdu := range apdus {
		args = append(args, "--send-apdu", apdu)
	}
	out := w.run("piv-tool", args...)
	all := received.FindAllStringSubmatch(out, -1)
	if len(all) != len(apdus) {
		w.t.Fatalf("piv-tool %v:\n%s", args, out)
	}
	last := all[len(all)-1]
	if last[1]+last[2] != "9000" {
		w.t.Fatalf("%s: SW %s%s\n%s", apdus[len(apdus)-1], last[1], last[2], out)
	}
	var data []byte
	for _, line := range strings.Split(strings.TrimSpace(last[3]), "\n") {
		for _, field := range strings.Fields(line[:min(len(line), 3*16)]) {
			b, err := hex.DecodeString(field)
			if err != nil {
				w.t.Fatalf("%q in\n%s", line, out)
			}
			data = append(data, b...)
		}
	}
	return data
}

// TestAdministration: piv-tool proves to be the administrator, makes a key and loads a certificate. Of key generation
// only the card's part is tested: Debian's piv-tool 0.23 cannot write the public key with OpenSSL 3 (it says "unable to gen
// RSA" after the card has made the key).
func TestAdministration(t *testing.T) {
	w := newWorld(t, simulation, "sim:piv")
	w.write("admin", []byte("01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08"))
	answer := w.administers("00:47:00:9E:05:AC:03:80:01:11:00")
	_, body, _, ok := iso7816.ReadTLV(answer)
	_, point, _, ok2 := iso7816.ReadTLV(body)
	if !ok || !ok2 {
		t.Fatalf("%x", answer)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("signed by the new key"))
	command := append(iso7816.AppendTLV(nil, 0x7C, iso7816.AppendTLV(iso7816.AppendTLV(nil, 0x82), 0x81, hash[:])), 0)
	answer = w.administers(fmt.Sprintf("00:87:11:9E:%02X:%s", len(command)-1, colons(command)))
	_, body, _, _ = iso7816.ReadTLV(answer)
	_, signature, _, _ := iso7816.ReadTLV(body)
	if !ecdsa.VerifyASN1(public, hash[:], signature) {
		t.Errorf("the new key does not sign: %x", answer)
	}

	ca := testca.NewRoot("Example CA")
	leaf := ca.Leaf("alice", testca.WithKey(testca.RSA(2048, "alice")))
	w.write("new.pem", leaf.PEM())
	_, _ = w.try("piv-tool", "--admin", "M:9B:03", "--cert", "9A", "--in", "new.pem") // its exit code is the number of bytes
	if got := w.certificate("01"); !bytes.Equal(got.Raw, leaf.DER) {
		t.Errorf("the certificate of 9A is still that of %s", got.Subject)
	}

	w.write("admin", []byte("F1:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08"))
	w.refused("admin_mode failed", "piv-tool", "--admin", "M:9B:03")
}

func colons(b []byte) string {
	return strings.Join(strings.Fields(fmt.Sprintf("% X", b)), ":")
}

// TestKeyAndCertificateFromFiles: a card with the key and certificate of a user, as for a login.
func TestKeyAndCertificateFromFiles(t *testing.T) {
	key := testca.RSA(2048, "alice")
	leaf := testca.NewRoot("Example CA").Leaf("alice", testca.WithKey(key))
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key.Private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := &world{t: t, dir: dir}
	files.write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	files.write("cert.pem", leaf.PEM())
	description := files.write("readers", fmt.Appendf(nil,
		"reader Desk\ncard piv\nkey 9A %[1]s/key.pem\ncertificate 9A %[1]s/cert.pem\nreader Empty\n", dir))
	w := newWorld(t, simulation, "sim:"+description)
	if got := w.certificate("01"); !bytes.Equal(got.Raw, leaf.DER) {
		t.Errorf("another certificate: %s", got.Subject)
	}
	w.signs("01", "SHA256-RSA-PKCS")
	w.says("Empty", "opensc-tool", "--list-readers")
}

// rawRSA is m^e mod N.
func rawRSA(public *rsa.PublicKey, m []byte) []byte {
	c := new(big.Int).Exp(new(big.Int).SetBytes(m), big.NewInt(int64(public.E)), public.N)
	return c.FillBytes(make([]byte, public.Size()))
}
