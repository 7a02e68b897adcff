package home

import (
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"pam_pkcs11/config/mappers"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/mapper/internal/mappertest"
	"pam_pkcs11/mapper/internal/mapping"
)

// keyAndLine makes a certificate of a key, and its line in authorized_keys.
func keyAndLine(t testing.TB, key *testca.Key) (*certinfo.Certificate, string) {
	t.Helper()
	cert := mappertest.Certificate(t, testca.WithKey(key))
	public, err := KeyOf(context.Background(), cert)
	if err != nil {
		t.Fatal(err)
	}
	return cert, public.String() + "\n"
}

// TestHomesThatHang stands for a home on a dead server: the search ends with its deadline.
func TestHomesThatHang(t *testing.T) {
	source, put := mappertest.Homes(t)
	key, line := keyAndLine(t, testca.P256())
	put("ann", ".ssh/authorized_keys", line, 0o600)
	release := make(chan struct{})
	defer close(release)
	h := homeFiles{accounts: source, log: slog.New(slog.DiscardHandler), maxSize: 100,
		file: func(a accounts.Account) (string, string, bool) { <-release; return a.Home, "x", true }}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Find(ctx, "x", listsCertificate(key.Raw)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestOneHomeThatHangs: it is passed over and named, those behind it count, and one that answers late counts too. The
// clock ticks only while the home hangs, so that no other one can be too slow.
func TestOneHomeThatHangs(t *testing.T) {
	source, put := mappertest.Homes(t)
	key, line := keyAndLine(t, testca.P256())
	put("ben", ".ssh/authorized_keys", line, 0o600)
	public, err := KeyOf(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, hanging := range map[string]string{"another's": "ann", "his own": "ben"} {
		t.Run(name, func(t *testing.T) {
			release, ticks := make(chan struct{}), make(chan time.Time)
			defer close(release)
			file := func(a accounts.Account) (string, string, bool) {
				if a.Name == hanging {
					go func() {
						for range homeTicks {
							ticks <- time.Now()
						}
					}()
					<-release
				}
				return a.Home, ".ssh/authorized_keys", true
			}
			var log strings.Builder
			h := homeFiles{accounts: source, log: slog.New(slog.NewTextHandler(&log, nil)), maxSize: MaxKeyFile, file: file, ticks: ticks}
			found, err := h.Find(t.Context(), "x", listsKey(public, time.Now()))
			want := []string{"ben"}
			if hanging == "ben" {
				want = nil
			}
			if err != nil || !slices.Equal(mapping.Users(found), want) {
				t.Errorf("%v, %v", found, err)
			}
			if !strings.Contains(log.String(), "user="+hanging) || !strings.Contains(log.String(), "passed over") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

// TestManyHomesThatHang: threads are not left behind without end.
func TestManyHomesThatHang(t *testing.T) {
	var source accounts.Static
	for i := range maxHung + 10 {
		source.Accounts = append(source.Accounts, accounts.Account{Name: fmt.Sprintf("user%d", i), UID: uint32(61000 + i), Home: "/nonexistent"})
	}
	release, ticks := make(chan struct{}), make(chan time.Time)
	defer close(release)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case ticks <- time.Now():
			case <-stop:
				return
			}
		}
	}()
	h := homeFiles{accounts: source, log: slog.New(slog.DiscardHandler), maxSize: 100, ticks: ticks,
		file: func(a accounts.Account) (string, string, bool) { <-release; return a.Home, "x", true }}
	if _, err := h.Find(t.Context(), "x", nil); err == nil || !strings.Contains(err.Error(), "do not answer") {
		t.Error(err)
	}
}

// TestSSHKeysAreThoseOfSSHKeygen: OpenSSH's own program writes the same line for the same key.
func TestSSHKeysAreThoseOfSSHKeygen(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Fatalf("%v: install the Debian package openssh-client", err)
	}
	for name, key := range map[string]*testca.Key{"rsa": testca.RSA(2048, "a"), "p256": testca.P256(), "p521": testca.EC(elliptic.P521())} {
		cert, line := keyAndLine(t, key)
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: cert.RawSPKI}), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(keygen, "-i", "-m", "PKCS8", "-f", file).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != strings.TrimSpace(line) {
			t.Errorf("%s: %v\n%s%s", name, err, out, line)
		}
	}
}

func TestKeyLines(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	cert, line := keyAndLine(t, testca.P256())
	key, err := KeyOf(context.Background(), cert)
	if err != nil {
		t.Fatal(err)
	}
	line = strings.TrimSpace(line)
	kind, blob, _ := strings.Cut(line, " ")
	cases := []struct {
		name, text string
		want       bool
		why        string
	}{
		{"plain", line, true, ""},
		{"comment behind", line + " ann@home x y", true, ""},
		{"blanks and tabs", " \t" + kind + "\t " + blob + "\t", true, ""},
		{"commented out", "#" + line, false, ""},
		{"commented out, after blanks", "  # " + line, false, ""},
		{"in the comment of another key", "ssh-ed25519 AAAA " + line, false, ""},
		{"in an option of another key", `command="` + line + `" ssh-ed25519 AAAA`, false, ""},
		{"under another type", "ssh-rsa " + blob, false, ""},
		{"of a security key", "sk-ecdsa-sha2-nistp256@openssh.com " + blob, false, ""},
		{"of a certificate", "ecdsa-sha2-nistp256-cert-v01@openssh.com " + blob, false, ""},
		{"one letter more", kind + " A" + blob, false, ""},
		{"one letter behind", kind + " " + blob + "A", false, ""},
		{"type missing", blob, false, ""},
		{"harmless options", `no-agent-forwarding,permitopen="a:1,b c",No-X11-Forwarding ` + line, true, ""},
		{"quote in an option", `environment="A=\" x",no-port-forwarding ` + line, true, ""},
		{"command", `command="/bin/true" ` + line, false, "command"},
		{"command behind others", `no-pty,command="x \" y" ` + line, false, "no-pty"},
		{"from", `from="10.0.0.0/8" ` + line, false, "from"},
		{"restrict", `restrict ` + line, false, "restrict"},
		{"principals", `principals="a" ` + line, false, "principals"},
		{"cert-authority", `cert-authority ` + line, false, "cert-authority"},
		{"unknown option", `future-limit ` + line, false, "future-limit"},
		{"empty option", `no-pty,, ` + line, false, ""},
		{"limited, and again without limit", `command="x" ` + line + "\n" + line, true, ""},
		{"expires later", `expiry-time="20260601120001Z" ` + line, true, ""},
		{"has expired", `expiry-time="20260601120000Z" ` + line, false, "expired"},
		{"expires on a day", `expiry-time="20300101" ` + line, true, ""},
		{"expired on a day", `expiry-time="202001010000" ` + line, false, "expired"},
		{"expires at no time", `expiry-time="20261399" ` + line, false, "none"},
		{"quote that is not closed", `command="x ` + line, false, ""},
		{"last line without end", "\n\n" + line, true, ""},
		{"byte order mark", "\ufeff" + line, true, ""},
		{"over the end of a block", strings.Repeat("#x\n", KeyBlock/3-20) + line, true, ""},
		{"far behind", strings.Repeat("ssh-rsa AAAA\n", 100000) + line + "\nssh-rsa AAAA\n", true, ""},
		{"cut by NUL", kind + " " + blob + "\x00", false, ""},
		{"empty", "", false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := listsKey(key, now)(strings.NewReader(c.text))
			if got != c.want || c.why != "" && (err == nil || !strings.Contains(err.Error(), c.why)) {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// keyFileOf is the file of a key keyfile, or why there is none.
func keyFileOf(path string) (func(accounts.Account) (dir, name string, ok bool), error) {
	s := mappers.OpenSSH{KeyFile: path}
	if f := s.Contradiction(); f != nil {
		return nil, f
	}
	return keyFile(s.Path()), nil
}

func TestKeyFile(t *testing.T) {
	a := accounts.Account{Name: "ann", Home: "/home/ann"}
	for path, want := range map[string]string{
		"": "/home/ann .ssh/authorized_keys", "keys": "/home/ann keys", "~/.k/x": "/home/ann .k/x", "%h/.k": "/home/ann .k",
		"/etc/keys/%u": "/ etc/keys/ann", "/etc/%u/100%%": "/ etc/ann/100%", ".keys/%u": "/home/ann .keys/ann",
	} {
		file, err := keyFileOf(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if dir, name, ok := file(a); !ok || dir+" "+name != want {
			t.Errorf("%s: %s %s %v", path, dir, name, ok)
		}
	}
	for _, path := range []string{"/etc/keys", "/etc/keys/%%", "%x", "/etc/%u/%i"} {
		if _, err := keyFileOf(path); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	file, err := keyFileOf("/etc/keys/%u")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", ".", "..", "../ann", "a/b"} {
		if _, _, ok := file(accounts.Account{Name: name, Home: "/"}); ok {
			t.Errorf("login %q makes a path", name)
		}
	}
	if _, _, ok := below("x")(accounts.Account{Name: "x", Home: "relative"}); ok {
		t.Error("a relative home is used")
	}
}

func FuzzAuthorizedKeys(f *testing.F) {
	cert, line := keyAndLine(f, testca.P256())
	key, err := KeyOf(context.Background(), cert)
	if err != nil {
		f.Fatal(err)
	}
	line = strings.TrimSpace(line)
	for _, s := range []string{line, "#" + line, `from="a b" ` + line, `no-pty,expiry-time="20300101Z" ` + line + " c", line + "\n" + line, "\"" + line, `a="\"` + line} {
		f.Add(s)
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		yes, err := listsKey(key, now)(strings.NewReader(text))
		if !yes {
			return
		}
		if err != nil {
			t.Fatal("both yes and an error")
		}
		// OpenSSH's own reading must find a line with this key.
		for rest := []byte(strings.TrimPrefix(text, "\ufeff")); len(rest) > 0; {
			public, _, options, more, err := ssh.ParseAuthorizedKey(rest)
			if err != nil {
				break
			}
			if base64.StdEncoding.EncodeToString(public.Marshal()) == key.blob && !strings.Contains(fmt.Sprint(options), "command") {
				return
			}
			rest = more
		}
		t.Fatalf("%q is taken for a line with the key", text)
	})
}
