package undo

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pam_pkcs11/internal/pamstack"
)

// profileLines are the auth lines of a profile as pam-auth-update writes them in front of two others:
// success=end jumps behind pam_deny.
func profileLines(t *testing.T, profile string) string {
	t.Helper()
	data, err := os.ReadFile("../../packaging/debian/pam-configs/" + profile)
	if err != nil {
		t.Fatal(err)
	}
	_, lines, found := strings.Cut(string(data), "\nAuth:\n")
	if !found {
		t.Fatalf("%s has no lines of auth", profile)
	}

	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(lines, "success=end", "success=2")) {
		b.WriteString("auth " + strings.TrimSpace(line) + "\n")
	}
	return b.String()
}

// TestHarmlessLine: with [default=ignore] in place of its control, by hand or by Defuse, the password
// opens every profile, whatever the module and the condition answer, and nothing opens without it.
// Where the line is deleted instead, the condition jumps over the password.
func TestHarmlessLine(t *testing.T) {
	const password = "auth [success=1 default=ignore] pam_unix.so\nauth requisite pam_deny.so\nauth required pam_permit.so\n"
	control := regexp.MustCompile(`(?m)^auth \S.*?(\s+pam_pkcs11\.so)`)

	for _, profile := range []string{"pkcs11", "pkcs11-group", "pkcs11-only"} {
		text := profileLines(t, profile) + password
		byHand := control.ReplaceAllString(text, "auth [default=ignore]$1")
		byTool, _ := Defuse(text, "")
		for name, auth := range map[string]string{"by hand": byHand, "by the tool": byTool} {
			for _, ours := range []pamstack.Result{pamstack.Success, pamstack.AuthErr, pamstack.Ignore, pamstack.ModuleUnknown, pamstack.Maxtries} {
				for _, condition := range []pamstack.Result{pamstack.Success, pamstack.AuthErr} {
					for _, known := range []pamstack.Result{pamstack.Success, pamstack.AuthErr} {
						got := login(t, auth, ours, condition, known)
						if (got == pamstack.Success) != (known == pamstack.Success) {
							t.Errorf("%s, %s: module %s, condition %s, password %s: %s\n%s", profile, name, ours, condition, known, got, auth)
						}
					}
				}
			}
		}
	}

	deleted := regexp.MustCompile(`(?m)^.*pam_pkcs11\.so.*\n`).ReplaceAllString(profileLines(t, "pkcs11-group")+password, "")
	if got := login(t, deleted, pamstack.Success, pamstack.AuthErr, pamstack.Success); got == pamstack.Success {
		t.Error("the line could be deleted, and doc/locked-out.md says otherwise")
	}
}

// login is what libpam answers for a stack.
func login(t *testing.T, auth string, ours, condition, password pamstack.Result) pamstack.Result {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "etc/pam.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "login"), []byte(auth), 0o644); err != nil {
		t.Fatal(err)
	}
	stack, err := pamstack.Load(root, "login")
	if err != nil {
		t.Fatal(err)
	}

	return stack.Run(pamstack.Auth, func(line pamstack.Line) pamstack.Result {
		switch line.Name() {
		case "pam_pkcs11.so":
			return ours
		case "pam_succeed_if.so":
			return condition
		case "pam_unix.so":
			return password
		case "pam_permit.so":
			return pamstack.Success
		}
		return pamstack.AuthErr
	}).Result
}
