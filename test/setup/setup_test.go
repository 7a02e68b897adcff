//go:build linux && cgo

package setup

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/ldapconn/slapdtest"
	"pam_pkcs11/internal/testca"
)

// result is what the tests read of the tool's JSON.
type result struct {
	Changed bool `json:"changed"`
	Error   string
	Files   []struct {
		Path string
		Diff []string
	}
	Logins []struct {
		Service, User, Way string
		In                 bool
	}
	Choice *struct{ Choices []string }
}

func decode(t *testing.T, r ran) result {
	t.Helper()
	var all result
	if err := json.Unmarshal([]byte(r.out), &all); err != nil {
		t.Fatalf("%v:\n%s\n%s", err, r.out, r.err)
	}
	return all
}

// takeBack undoes the last setup; all is as it was before.
func takeBack(t *testing.T, before string) {
	t.Helper()
	if r := runTool(t, "", "undo"); r.code != 0 {
		t.Errorf("undo ended with %d:\n%s%s", r.code, r.out, r.err)
	}
	unchanged(t, before)
}

// sudoAsksPIN runs sudo as alice.
func sudoAsksPIN(t *testing.T) {
	t.Helper()
	p := onTerminal(t, aliceID, "/usr/bin/sudo", "-k", "/usr/bin/id", "-un")
	p.Expect("Smart card PIN")
	p.Expect(": ")
	p.Enter(pin)
	p.Expect("root")
	if code := p.Wait(); code != 0 {
		t.Errorf("sudo ended with %d:\n%s", code, p.Text())
	}
}

// sudoAsksPassword runs sudo as alice, after an undo.
func sudoAsksPassword(t *testing.T) {
	t.Helper()
	p := onTerminal(t, aliceID, "/usr/bin/sudo", "-k", "/usr/bin/id", "-un")
	if got := p.ExpectOne("Smart card PIN", "assword for alice: "); got == "Smart card PIN" {
		t.Fatal("sudo asks for the PIN")
	}
	p.Enter(password)
	p.Expect("root")
	p.Wait()
}

// TestFirstHour is what an administrator types, from `setup --user alice` to `undo`, at a terminal: four questions, and
// sudo asks for the PIN.
func TestFirstHour(t *testing.T) {
	before := tree(t)
	control := withCard(t, stage.ca.Leaf("alice"))
	p := onTerminal(t, 0, stage.tool, "setup", "--user", "alice")
	p.Expect("Certificate: CN=alice")
	p.Expect("Why is this card trusted?")
	p.Expect("Number: ")
	p.Enter("1")
	p.Expect("The key of this card will be paired with the account alice.")
	p.Expect("Changes in /etc/pam.d/common-auth:")
	p.Expect("pam_pkcs11.so")
	p.Expect("PIN of the card")
	p.Enter(pin)
	p.Expect("Rehearsed: sudo lets alice in (card)")
	p.Expect("Password of alice")
	p.Enter(password)
	p.Expect("Rehearsed: sudo lets alice in (password)")
	p.Expect("Make these changes?")
	unchanged(t, before)
	p.Enter("yes")
	p.Expect("alice can log in with the card now.")
	p.Expect("To go back: pam-pkcs11 undo")
	if code := p.Wait(); code != 0 {
		t.Fatalf("setup ended with %d:\n%s", code, p.Text())
	}
	if _, tries, _, err := control.Count(); err != nil || tries != 3 {
		t.Errorf("%d tries are left: %v", tries, err)
	}
	if strings.Contains(p.Text(), pin) || strings.Contains(p.Text(), password) {
		t.Error("a secret is shown")
	}

	sudoAsksPIN(t)
	takeBack(t, before)
	sudoAsksPassword(t)
}

// TestWithoutQuestions: the same by flags, with what a configuration management expects.
func TestWithoutQuestions(t *testing.T) {
	before := tree(t)
	withCard(t, testca.SelfSigned("alice"))

	dry := runTool(t, "", "setup", "--user", "alice", "--yes", "--dry-run", "--json")
	if got := decode(t, dry); dry.code != 0 || got.Changed || len(got.Files) == 0 {
		t.Fatalf("dry run: %d\n%s%s", dry.code, dry.out, dry.err)
	}
	unchanged(t, before)

	first := runTool(t, pin, "setup", "--user", "alice", "--yes", "--json", "--pin-fd", "3")
	got := decode(t, first)
	if first.code != 0 || !got.Changed {
		t.Fatalf("%d\n%s%s", first.code, first.out, first.err)
	}
	byCard := 0
	for _, l := range got.Logins {
		if l.Way == "card" && l.In {
			byCard++
		}
	}
	if byCard == 0 {
		t.Errorf("no login by card: %+v", got.Logins)
	}
	second := runTool(t, "", "setup", "--user", "alice", "--yes", "--json")
	if got := decode(t, second); second.code != 0 || got.Changed {
		t.Errorf("the second run: %d\n%s%s", second.code, second.out, second.err)
	}

	sudoAsksPIN(t)
	takeBack(t, before)
}

// TestDirectory: users are in a directory, which says whose certificate it is; flags only.
func TestDirectory(t *testing.T) {
	before := tree(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, stage.ca.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	cert := stage.ca.Leaf("Alice Example")
	withCard(t, cert)
	server := slapdtest.Start(t, slapdtest.Person("alice", aliceID, "userCertificate;binary:: "+base64Of(cert.DER)))

	args := []string{"setup", "--user", "alice", "--yes", "--json", "--ca", ca, "--mapper", "ldap",
		"--mapper-option", "uri=" + server.LDAP, "--mapper-option", "base=" + slapdtest.Suffix, "--mapper-option", "scope=2",
		"--mapper-option", "ssl=off"}
	first := runTool(t, pin, append(args, "--pin-fd", "3")...)
	if got := decode(t, first); first.code != 0 || !got.Changed {
		t.Fatalf("%d\n%s%s", first.code, first.out, first.err)
	}
	second := runTool(t, "", args...)
	if got := decode(t, second); second.code != 0 || got.Changed {
		t.Errorf("the second run: %d\n%s%s", second.code, second.out, second.err)
	}
	sudoAsksPIN(t)
	takeBack(t, before)
}

// TestRefusals: what stands against a setup is said, with an exit code of its own, and nothing is changed.
func TestRefusals(t *testing.T) {
	before := tree(t)
	card := withCard(t, stage.ca.Leaf("alice"))
	for _, row := range []struct {
		name, pin string
		args      []string
		code      int
		said      string
	}{
		{name: "a choice is missing", args: []string{"--user", "alice"}, code: 3, said: "--pin-key"},
		{name: "no user", code: 3, said: "--user NAME"},
		{name: "an unknown user", args: []string{"--user", "nobody-here"}, code: 1, said: "there is no account"},
		{name: "root", args: []string{"--user", "root"}, code: 1, said: "root"},
		{name: "no such authority", args: []string{"--user", "alice", "--ca", "/nonexistent.pem"}, code: 1, said: "nonexistent"},
		{name: "only a simple service", args: []string{"--user", "alice", "--pin-key", "--service", "login"}, code: 4, said: "common-auth"},
		{name: "a PIN that cannot be one", pin: "letters", args: []string{"--user", "alice", "--pin-key", "--pin-fd", "3"}, code: 4, said: "2366"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := runTool(t, row.pin, append([]string{"setup", "--yes", "--json"}, row.args...)...)
			if r.code != row.code || !strings.Contains(r.out, row.said) {
				t.Errorf("%d, want %d with %q:\n%s%s", r.code, row.code, row.said, r.out, r.err)
			}
			unchanged(t, before)
		})
	}
	if _, tries, _, err := card.Count(); err != nil || tries != 3 {
		t.Errorf("%d tries are left: %v", tries, err)
	}
}

// TestService: the card for sudo alone, by a line in its file.
func TestService(t *testing.T) {
	before := tree(t)
	withCard(t, testca.SelfSigned("alice"))
	r := runTool(t, "", "setup", "--user", "alice", "--yes", "--json", "--service", "sudo")
	if r.code != 0 {
		t.Fatalf("%d\n%s%s", r.code, r.out, r.err)
	}
	text, err := os.ReadFile("/etc/pam.d/sudo")
	if err != nil || !strings.Contains(string(text), "auth sufficient pam_pkcs11.so\n@include common-auth\n") {
		t.Errorf("%v:\n%s", err, text)
	}
	sudoAsksPIN(t)
	takeBack(t, before)
}

func base64Of(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

// TestModes: where the password is no way in any more, setup wants another one to be proved first, and asks for the card
// with those who need it.
func TestModes(t *testing.T) {
	withCard(t, testca.SelfSigned("alice"))
	clean := tree(t)
	base := []string{"setup", "--user", "alice", "--yes", "--json", "--pin-fd", "3"}
	for _, mode := range []string{"only", "group"} {
		if r := runTool(t, pin, append(base, "--mode", mode)...); r.code != 1 {
			t.Errorf("%s without its group: %d\n%s%s", mode, r.code, r.out, r.err)
		}
		unchanged(t, clean)
	}
	// What the process in the namespace has found is told in the language of who asked.
	italian := runToolIn(t, "it_IT.UTF-8", pin, "setup", "--user", "alice", "--yes", "--pin-fd", "3", "--mode", "only")
	if !strings.Contains(italian.out, "il gruppo non c'è") {
		t.Errorf("%d\n%s%s", italian.code, italian.out, italian.err)
	}

	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile("/etc/group", groups, 0o644) })
	if err := appendTo("/etc/group", "staff2:x:64010:alice\nsmartcard:x:64012:alice\nbreakglass:x:64011:root,bob\n"); err != nil {
		t.Fatal(err)
	}
	before := tree(t)
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"--mode", "only"}, "notingroup breakglass"},
		{[]string{"--mode", "group"}, "ingroup smartcard"},
		{[]string{"--mode", "group", "--group", "staff2"}, "ingroup staff2"},
	} {
		args := row.args
		r := runTool(t, pin, append(base, args...)...)
		got := decode(t, r)
		if r.code != 0 || !got.Changed {
			t.Fatalf("%s: %d\n%s%s", args, r.code, r.out, r.err)
		}
		breakGlassIsIn(t, got)
		common, err := os.ReadFile("/etc/pam.d/common-auth")
		if err != nil || !strings.Contains(string(common), " "+row.want+"\n") {
			t.Errorf("%s: %v\n%s", args, err, common)
		}
		sudoAsksPIN(t)
		takeBack(t, before)
	}
}

// TestFrozenBlock: where an administrator has edited the block, pam-auth-update does nothing and says 0. Setup looks, and
// refuses.
func TestFrozenBlock(t *testing.T) {
	withCard(t, testca.SelfSigned("alice"))
	const file = "/etc/pam.d/common-auth"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(file, text, 0o644) })
	edited := strings.Replace(string(text), "[success=1 default=ignore]\tpam_unix.so", "[success=1 new_authtok_reqd=1 default=ignore]\tpam_unix.so", 1)
	if err := os.WriteFile(file, []byte(edited), 0o644); err != nil || edited == string(text) {
		t.Fatal(err)
	}
	before := tree(t)
	r := runTool(t, "", "setup", "--user", "alice", "--yes", "--json")
	if r.code != 1 || !strings.Contains(r.out, "has not switched the profile pkcs11 on") {
		t.Errorf("%d\n%s%s", r.code, r.out, r.err)
	}
	unchanged(t, before)
}

// TestAnotherProfileCame: between setup and undo a package has brought a profile of its own. Undo switches ours off, and
// says what was edited since.
func TestAnotherProfileCame(t *testing.T) {
	before := tree(t)
	withCard(t, testca.SelfSigned("alice"))
	if r := runTool(t, "", "setup", "--user", "alice", "--yes"); r.code != 0 {
		t.Fatalf("%d\n%s%s", r.code, r.out, r.err)
	}
	const profile = "/usr/share/pam-configs/another"
	text := "Name: Another\nDefault: yes\nPriority: 300\nAuth-Type: Additional\nAuth:\n\toptional\tpam_echo.so file=/dev/null\n"
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	updatePAM(t)

	r := runTool(t, "", "undo")
	common, err := os.ReadFile("/etc/pam.d/common-auth")
	if err != nil || r.code != 1 || strings.Contains(string(common), "pam_pkcs11.so") || !strings.Contains(string(common), "pam_echo.so") {
		t.Errorf("%d, %v\n%s%s\n%s", r.code, err, r.out, r.err, common)
	}
	if !strings.Contains(r.out, "Edited since the setup: /etc/pam.d/common-auth.") || !strings.Contains(r.out, "+auth\toptional\tpam_echo.so") {
		t.Errorf("it does not say what was edited:\n%s", r.out)
	}
	sudoAsksPassword(t)

	if err := os.Remove(profile); err != nil {
		t.Fatal(err)
	}
	updatePAM(t)
	after := tree(t)
	for _, gone := range []string{"pam_pkcs11.conf", "enrolled"} {
		if strings.Contains(after, gone+"\n") != strings.Contains(before, gone+"\n") {
			t.Errorf("%s is there still", gone)
		}
	}
}

// updatePAM runs pam-auth-update as each package does.
func updatePAM(t *testing.T) {
	t.Helper()
	cmd := exec.Command("pam-auth-update", "--package")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

// breakGlassIsIn fails where no member of the break-glass group was let in by password in the rehearsal.
func breakGlassIsIn(t *testing.T, r result) {
	t.Helper()
	services := 0
	for _, l := range r.Logins {
		if l.Way != "break-glass" {
			continue
		}
		if services++; l.User != "bob" || !l.In {
			t.Errorf("%+v", l)
		}
	}
	if services == 0 {
		t.Errorf("no login of the break-glass group: %+v", r.Logins)
	}
}

// TestBreakGlassIsShutOut: the guard reads the stack and finds a way for the password; only a login shows that the way is
// closed to the break-glass group.
func TestBreakGlassIsShutOut(t *testing.T) {
	withCard(t, testca.SelfSigned("alice"))
	for file, change := range map[string]func(string) string{
		"/etc/group":      func(text string) string { return text + "breakglass:x:64011:root,bob\n" },
		"/etc/pam.d/sudo": func(text string) string { return "auth requisite pam_succeed_if.so user = alice\n" + text },
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile(file, text, 0o644) })
		if err := os.WriteFile(file, []byte(change(string(text))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := tree(t)
	args := []string{"setup", "--user", "alice", "--yes", "--json", "--mode", "only", "--pin-fd", "3"}
	r := runTool(t, pin, args...)
	if got := decode(t, r); r.code != 4 || !strings.Contains(got.Error, "sudo lets no member of the group breakglass in by password") {
		t.Errorf("%d\n%s%s", r.code, r.out, r.err)
	}
	unchanged(t, before)
}

// TestAuthorityOfTheStore: the authority that has issued the card's certificate is in the system's store. It is offered with
// its fingerprint, and never taken unasked.
func TestAuthorityOfTheStore(t *testing.T) {
	withFiles(t, map[string]string{"/etc/ssl/certs/Example_CA.pem": string(stage.ca.PEM())})
	before := tree(t)
	withCard(t, stage.ca.Leaf("alice"))
	fingerprint := fmt.Sprintf("%x", sha256.Sum256(stage.ca.DER))

	r := runTool(t, "", "setup", "--user", "alice", "--yes", "--json")
	if got := decode(t, r); r.code != 3 || got.Choice == nil || !slices.Contains(got.Choice.Choices, "--ca-sha256 "+fingerprint) {
		t.Errorf("%d\n%s%s", r.code, r.out, r.err)
	}
	other := strings.Repeat("00", 32)
	if r := runTool(t, "", "setup", "--user", "alice", "--yes", "--ca-sha256", other); r.code != 1 || !strings.Contains(r.err, "no authority in force") {
		t.Errorf("%d\n%s%s", r.code, r.out, r.err)
	}
	unchanged(t, before)

	p := onTerminal(t, 0, stage.tool, "setup", "--user", "alice", "--no-test")
	p.Expect("Why is this card trusted?")
	p.Expect("Number: ")
	p.Enter("2")
	p.Expect("1) That in /etc/ssl/certs/Example_CA.pem, with the SHA-256 fingerprint ")
	p.Expect("Number: ")
	p.Enter("1")
	p.Expect("Is this the fingerprint that the authority tells?")
	p.Enter("no")
	if code := p.Wait(); code != 1 {
		t.Errorf("setup ended with %d:\n%s", code, p.Text())
	}
	unchanged(t, before)

	r = runTool(t, pin, "setup", "--user", "alice", "--yes", "--json", "--ca-sha256", fingerprint, "--mapper", "cn", "--pin-fd", "3")
	if got := decode(t, r); r.code != 0 || !got.Changed {
		t.Fatalf("%d\n%s%s", r.code, r.out, r.err)
	}
	sudoAsksPIN(t)
	takeBack(t, before)
}
