//go:build hosts && linux && cgo

package hosts

import (
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/testca"
)

// prompts are the ends of the prompt, by what the card tells of the tries: a test with a wrong PIN leaves it so
// for the next.
var prompts = []string{"PIN: ", "PIN (few tries left): "}

// TestTheLog: one line for a success and one for a refusal, as pam_syslog would write it.
func TestTheLog(t *testing.T) {
	for name, tt := range map[string]struct{ typed, line string }{
		"a success": {pin, "login granted user=alice"},
		"a refusal": {wrongPIN, "login refused user=alice reason=pin_incorrect"},
	} {
		t.Run(name, func(t *testing.T) {
			log := stage.syslog.during(t)
			p := onTerminal(t, bobID, nil, "/bin/su", "alice", "-c", "true")
			p.ExpectOne(prompts...)
			p.Enter(tt.typed)
			p.Wait()
			text := log()
			if n := strings.Count(text, "pam_pkcs11(su:auth): "+tt.line); n != 1 {
				t.Errorf("%d lines with %q:\n%s", n, tt.line, text)
			}
			if strings.Contains(text, pin) || strings.Contains(text, wrongPIN) {
				t.Error("the PIN is in the log")
			}
		})
	}
}

func TestSuWithACard(t *testing.T) {
	p := onTerminal(t, bobID, nil, "/bin/su", "alice", "-c", "id -un")
	p.ExpectOne(prompts...)
	p.Enter(pin)
	p.Expect("alice")
	if code := p.Wait(); code != 0 {
		t.Errorf("su ended with %d:\n%s", code, p.Text())
	}
}

func TestSuWithAWrongPIN(t *testing.T) {
	p := onTerminal(t, bobID, nil, "/bin/su", "alice", "-c", "id -un")
	p.ExpectOne(prompts...)
	p.Enter(wrongPIN)
	p.Expect("Error 2320")
	if code := p.Wait(); code == 0 {
		t.Errorf("su let in:\n%s", p.Text())
	}
}

func TestSuToAnAccountOfSomebodyElse(t *testing.T) {
	p := onTerminal(t, aliceID, nil, "/bin/su", "bob", "-c", "id -un")
	p.Expect("Error 2358")
	if code := p.Wait(); code == 0 || strings.Contains(p.Text(), "PIN") {
		t.Errorf("su asked for a PIN or let in:\n%s", p.Text())
	}
}

func TestSuByRootAsksNothing(t *testing.T) {
	p := onTerminal(t, 0, nil, "/bin/su", "alice", "-c", "id -un")
	p.Expect("alice")
	if code := p.Wait(); code != 0 {
		t.Errorf("su ended with %d:\n%s", code, p.Text())
	}
}

func TestSudoWithACard(t *testing.T) {
	p := onTerminal(t, aliceID, nil, "/usr/bin/sudo", "-k", "/usr/bin/id", "-un")
	p.ExpectOne(prompts...)
	p.Enter(pin)
	p.Expect("root")
	if code := p.Wait(); code != 0 {
		t.Errorf("sudo ended with %d:\n%s", code, p.Text())
	}
}

// sudo says PAM_SILENT: the reason of the refusal is shown all the same, and the next prompt tells what is left.
func TestSudoWithAWrongPIN(t *testing.T) {
	p := onTerminal(t, aliceID, nil, "/usr/bin/sudo", "-k", "/usr/bin/id", "-un")
	p.ExpectOne(prompts...)
	p.Enter(wrongPIN)
	p.Expect("Error 2320")
	p.Expect("1 incorrect password attempt")
	if code := p.Wait(); code == 0 {
		t.Errorf("sudo let in:\n%s", p.Text())
	}
}

func TestLoginWithACard(t *testing.T) {
	p := onTerminal(t, 0, nil, "/bin/login", "alice")
	p.ExpectOne(prompts...)
	p.Enter(pin)
	p.Expect("$ ")
	p.Enter("echo I am $(id -un)")
	p.Expect("I am alice")
	p.Enter("exit")
	if code := p.Wait(); code != 0 {
		t.Errorf("login ended with %d:\n%s", code, p.Text())
	}
}

func TestLoginAsksTheCardForTheName(t *testing.T) {
	p := onTerminal(t, 0, nil, "/bin/login")
	p.ExpectOne(prompts...)
	p.Enter(pin)
	p.Expect("$ ")
	p.Enter("echo I am $(id -un)")
	p.Expect("I am alice")
	p.Enter("exit")
	if code := p.Wait(); code != 0 {
		t.Errorf("login ended with %d:\n%s", code, p.Text())
	}
}

// hostile returns an environment with which the caller of a setuid program might hope to change the answer: its
// card reader, card, library and policies in place of the machine's.
func hostile(t *testing.T) []string {
	t.Helper()
	dir, err := os.MkdirTemp(stage.Dir, "hostile-")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"softhsm2.conf":  "directories.tokendir = " + dir + "\n",
		"opensc.conf":    "app default { disable_popups = false; }\n",
		"libcrypto.so.3": "not a library",
		"hostile.so":     "not a library",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return []string{
		"LD_PRELOAD=" + dir + "/hostile.so", "LD_LIBRARY_PATH=" + dir, "LD_AUDIT=" + dir + "/hostile.so",
		"TZ=:" + dir + "/zone", "LANGUAGE=../../.." + dir + ":%n%s", "LANG=it_IT.UTF-8", "LC_ALL=it_IT.UTF-8",
		"OPENSC_CONF=" + dir + "/opensc.conf", "SOFTHSM2_CONF=" + dir + "/softhsm2.conf",
		"P11_KIT_STRICT=1", "P11_KIT_DEBUG=all", "P11_KIT_SERVER_ADDRESS=unix:path=" + dir + "/p11",
		"PCSCLITE_CSOCK_NAME=" + dir + "/pcscd.comm", "GODEBUG=rsa1024min=0,panicnil=1", "GOGC=off", "GOTRACEBACK=crash",
		"HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "OPENSSL_CONF=" + dir + "/openssl.cnf", "PKCS11SPY=" + dir + "/hostile.so",
	}
}

// TestTheCallersEnvironmentChangesNothing uses a card that SoftHSM finds by its system-wide file, so that any of the
// caller's variables that came through would make it look elsewhere.
func TestTheCallersEnvironmentChangesNothing(t *testing.T) {
	if err := unix.Mount(stage.alice.Store().Conf(), "/etc/softhsm/softhsm2.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount("/etc/softhsm/softhsm2.conf", 0); err != nil {
			t.Error(err)
		}
	})
	withCard(t, stage.alice.Installed())
	for name, caller := range map[string]struct {
		env     []string
		prompts []string
	}{
		"a quiet one":   {nil, prompts},
		"a hostile one": {hostile(t), []string{"PIN (Smart card): ", "PIN (Smart card, restano pochi tentativi): "}}, // the language is the caller's to choose
	} {
		for _, tt := range []struct {
			id      uint32
			program string
			args    []string
			want    string
			refused string
		}{
			{bobID, "/bin/su", []string{"alice", "-c", "/usr/bin/id -un"}, "alice", "2320"},
			{aliceID, "/usr/bin/sudo", []string{"-k", "/usr/bin/id", "-un"}, "root", "incorrect password"},
		} {
			t.Run(tt.program+" in "+name, func(t *testing.T) {
				p := onTerminal(t, tt.id, caller.env, tt.program, tt.args...)
				p.ExpectOne(caller.prompts...)
				p.Enter(pin)
				p.Expect(tt.want)
				if code := p.Wait(); code != 0 {
					t.Errorf("ended with %d:\n%s", code, p.Text())
				}
			})
			t.Run(tt.program+" with a wrong PIN in "+name, func(t *testing.T) {
				p := onTerminal(t, tt.id, caller.env, tt.program, tt.args...)
				p.ExpectOne(caller.prompts...)
				p.Enter(wrongPIN)
				p.Expect(tt.refused)
				if code := p.Wait(); code == 0 {
					t.Errorf("let in:\n%s", p.Text())
				}
			})
		}
	}
}

// TestTheCallerCannotAllowWeakKeys: GODEBUG=rsa1024min=0 would let Go accept RSA keys below 1024 bits.
func TestTheCallerCannotAllowWeakKeys(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 768) // this program itself runs with GODEBUG=rsa1024min=0
	if err != nil {
		t.Fatal(err)
	}
	key := testca.FromSigner(private)
	card, err := stage.NewCard("weak", "alice", pin, stage.CA.Leaf("alice", testca.WithKey(key)), key)
	if err != nil {
		t.Fatal(err)
	}
	withCard(t, card)
	for name, env := range map[string][]string{"without GODEBUG": nil, "with GODEBUG": {"GODEBUG=rsa1024min=0"}} {
		t.Run(name, func(t *testing.T) {
			p := onTerminal(t, bobID, env, "/bin/su", "alice", "-c", "echo I am $(id -un)")
			if p.ExpectOne(append([]string{"Error 23"}, prompts...)...) != "Error 23" {
				p.Enter(pin)
				p.Expect("Error 23")
			}
			if code := p.Wait(); code == 0 || strings.Contains(p.Text(), "I am alice") {
				t.Errorf("su accepted an RSA key of 768 bits:\n%s", p.Text())
			}
		})
	}
}
