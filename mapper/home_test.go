package mapper_test

import (
	"context"
	"crypto/elliptic"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper"
	"pam_pkcs11/mapper/internal/home"
	"pam_pkcs11/mapper/internal/mappertest"
)

func chainOf(t *testing.T, source accounts.Source, typ string, settings map[string][]string) *mapper.Chain {
	t.Helper()
	b, err := config.NewMapper(typ, typ, settings)
	if err != nil {
		t.Fatal(err)
	}
	c, err := mapper.New([]config.Mapper{b}, mapper.Options{Accounts: source})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOpenSC(t *testing.T) {
	source, put := mappertest.Homes(t)
	const file = ".eid/authorized_certificates"
	one, two, three := mappertest.CA.Leaf("one"), mappertest.CA.Leaf("two"), mappertest.CA.Leaf("three")
	put("ann", file, "some words\n"+string(two.PEM())+"\n"+strings.ReplaceAll(string(one.PEM()), "\n", "\r\n"), 0o600)
	put("ben", file, string(two.PEM())+"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n", 0o600)
	put("root", file, string(three.PEM()), 0o600)
	c := chainOf(t, source, "opensc", nil)
	cases := []struct {
		name, user string
		cert       *testca.Cert
		want, why  string
	}{
		{name: "matched, after another", user: "ann", cert: one, want: "ann", why: "owner's file"},
		{name: "found", cert: one, want: "ann"},
		{name: "not in his file", user: "ben", cert: one, why: "no"},
		{name: "two users claim it", cert: two, why: "more than one user fits: ann, ben"},
		{name: "each of the two is matched", user: "ben", cert: two, want: "ben"},
		{name: "root by his own file", user: "root", cert: three, want: "root"},
		{name: "nobody has it", cert: mappertest.CA.Leaf("one"), why: "no"},
		{name: "no home", user: "nohome", cert: one, why: "no"},
		{name: "no account", user: "zoe", cert: one, why: "no such account"},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			cert, err := certinfo.Parse(k.cert.DER)
			if err != nil {
				t.Fatal(err)
			}
			if got, verdict := ask(t, c, cert, k.user); got != k.want || !strings.Contains(verdict, k.why) {
				t.Errorf("got %q (%s), want %q (%s)", got, verdict, k.want, k.why)
			}
		})
	}
}

// TestOneCertificateOfTwoNames: two names of one number are two users.
func TestOneCertificateOfTwoNames(t *testing.T) {
	source, put := mappertest.Homes(t)
	cert := mappertest.CA.Leaf("x")
	put("root", ".eid/authorized_certificates", string(cert.PEM()), 0o600)
	root := source.Accounts[0]
	root.Name = "toor"
	source.Accounts = append(source.Accounts, root)
	parsed, err := certinfo.Parse(cert.DER)
	if err != nil {
		t.Fatal(err)
	}
	if got, verdict := ask(t, chainOf(t, source, "opensc", nil), parsed, ""); got != "" || !strings.Contains(verdict, "root, toor") {
		t.Errorf("got %q (%s)", got, verdict)
	}
	source.Accounts = append(source.Accounts[:len(source.Accounts)-1], source.Accounts[0]) // one name, listed twice
	if got, verdict := ask(t, chainOf(t, source, "opensc", nil), parsed, ""); got != "root" {
		t.Errorf("got %q (%s)", got, verdict)
	}
}

// TestHostileHomes: what another user does in his home neither lets him in nor keeps others out.
func TestHostileHomes(t *testing.T) {
	source, put := mappertest.Homes(t)
	const file = ".ssh/authorized_keys"
	key, line := keyAndLine(t, testca.P256())
	put("ann", file, line, 0o600)
	ben := source.Accounts[2]
	path := filepath.Join(ben.Home, file)
	hostile := map[string]func() error{
		"FIFO":                    func() error { return unix.Mkfifo(path, 0o600) },
		"link to ann's file":      func() error { return os.Symlink(filepath.Join(source.Accounts[1].Home, file), path) },
		"link to a terminal":      func() error { return os.Symlink("/dev/tty", path) },
		"link to itself":          func() error { return os.Symlink("authorized_keys", path) },
		"directory":               func() error { return os.Mkdir(path, 0o700) },
		"his file, for all":       func() error { put("ben", file, line, 0o666); return nil },
		"his file, for his group": func() error { put("ben", file, line, 0o660); return nil },
		"a file without end of line": func() error {
			put("ben", file, strings.Repeat("x", 2*home.KeyBlock+home.MaxKeyLine), 0o600)
			return nil
		},
		"a file too long": func() error { put("ben", file, "", 0o600); return os.Truncate(path, home.MaxKeyFile+1) },
	}
	c := chainOf(t, source, "openssh", nil)
	for name, make := range hostile {
		t.Run(name, func(t *testing.T) {
			put("ben", ".ssh/x", "", 0o600)
			if err := errors.Join(os.RemoveAll(path), make(), os.Lchown(path, int(ben.UID), int(ben.GID))); err != nil {
				t.Fatal(err)
			}
			if got, verdict := ask(t, c, key, ""); got != "ann" {
				t.Errorf("find: %q (%s)", got, verdict)
			}
			if got, verdict := ask(t, c, key, "ben"); got != "" || verdict == "no" {
				t.Errorf("match: %q (%s)", got, verdict)
			}
		})
	}
}

// keyAndLine returns a certificate with the key, and the key as authorized_keys has it.
func keyAndLine(t testing.TB, key *testca.Key) (*certinfo.Certificate, string) {
	t.Helper()
	cert := mappertest.Certificate(t, testca.WithKey(key))
	public, err := home.KeyOf(context.Background(), cert)
	if err != nil {
		t.Fatal(err)
	}
	return cert, public.String() + "\n"
}

func TestOpenSSHKeys(t *testing.T) {
	source, put := mappertest.Homes(t)
	other, _ := keyAndLine(t, testca.P256())
	c := chainOf(t, source, "openssh", nil)
	for name, key := range map[string]*testca.Key{
		"RSA 2048": testca.RSA(2048, "a"), "RSA-PSS": testca.OpenSSL("rsa-pss", "rsa_keygen_bits:2048"), "P-256": testca.P256(),
		"P-384": testca.EC(elliptic.P384()), "P-521": testca.EC(elliptic.P521()), "Ed25519": testca.Ed25519(),
	} {
		t.Run(name, func(t *testing.T) {
			cert, line := keyAndLine(t, key)
			put("ann", ".ssh/authorized_keys", "# keys\n\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBhsaW\n"+strings.TrimSpace(line)+" ann@home\r\n", 0o600)
			for _, user := range []string{"", "ann"} {
				if got, verdict := ask(t, c, cert, user); got != "ann" {
					t.Errorf("%q (%s)", got, verdict)
				}
			}
			if got, _ := ask(t, c, other, "ann"); got != "" {
				t.Error("another key matches")
			}
			if got, _ := ask(t, c, cert, "ben"); got != "" {
				t.Error("ben matches")
			}
		})
	}
	for _, key := range []*testca.Key{testca.EC(elliptic.P224()), testca.OpenSSL("ec", "ec_paramgen_curve:brainpoolP256r1"), testca.OpenSSL("ed448")} {
		if got, verdict := ask(t, c, mappertest.Certificate(t, testca.WithKey(key)), "ann"); got != "" || !strings.Contains(verdict, "OpenSSH has no keys of this type") {
			t.Errorf("%q (%s)", got, verdict)
		}
	}
}

// TestKeyFileOfAllUsers: an absolute keyfile with the login in it.
func TestKeyFileOfAllUsers(t *testing.T) {
	source, _ := mappertest.Homes(t)
	dir := filepath.Dir(source.Accounts[0].Home)
	cert, line := keyAndLine(t, testca.P256())
	if err := os.WriteFile(filepath.Join(dir, "keys.ann"), []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	c := chainOf(t, source, "openssh", set("keyfile", dir+"/keys.%u"))
	for user, want := range map[string]string{"": "ann", "ann": "ann", "ben": ""} {
		if got, verdict := ask(t, c, cert, user); got != want {
			t.Errorf("%q: %q (%s)", user, got, verdict)
		}
	}
}
