//go:build hosts && linux && cgo

package hosts

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// limits are options of the shell's ulimit with which a caller may start a setuid program: address space and data in
// KiB, from less than a program needs to start at all, by way of those with which the module cannot be loaded, to more
// than enough; and open files.
var limits = []string{
	"-v 4000", "-v 5000", "-v 6000", "-v 7000",
	"-v 8000", "-v 9000", "-v 10000", "-v 12000", "-v 14000", "-v 16000", "-v 18000", "-v 20000", "-v 24000", "-v 28000",
	"-v 32000", "-v 40000", "-v 50000", "-v 64000", "-v 80000", "-v 100000", "-v 128000", "-v 160000", "-v 200000",
	"-d 100", "-d 300", "-d 1000", "-d 3000", "-d 10000",
	"-n 3", "-n 4", "-n 5", "-n 6", "-n 8", "-n 10",
}

// limited is the command of a shell that starts a program under a limit.
func limited(limit string, command string) []string {
	return []string{"/bin/sh", "-c", "ulimit " + limit + "; exec " + command}
}

// suEnters reports whether carol becomes alice by alice's password, under a limit.
func suEnters(t *testing.T, limit string) bool {
	t.Helper()
	command := limited(limit, "/bin/su alice -c '"+iAm+"'")
	p := onTerminal(t, carolID, nil, command[0], command[1:]...)
	return logIn(t, p, "I am alice", answers{pin: wrongPIN, password: password}).in
}

// polkitHelper is what polkit's agents start, setuid, to authenticate a user for an action.
const polkitHelper = "/usr/lib/polkit-1/polkit-agent-helper-1"

// polkitEnters reports whether the helper takes alice for authenticated by alice's password, under a limit. Then it
// goes on to the account's lines, of which one leaves a mark; it finds no daemon here to tell.
func polkitEnters(t *testing.T, mark string, limit string) bool {
	t.Helper()
	if err := os.RemoveAll(mark); err != nil {
		t.Fatal(err)
	}
	command := limited(limit, polkitHelper+" alice")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader("cookie\n" + strings.Repeat(password+"\n", 3))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: carolID, Gid: carolID}}
	said, _ := cmd.CombinedOutput() // it ends with an error in any case
	if ctx.Err() != nil {
		t.Fatalf("polkit's helper did not end:\n%s", said)
	}
	_, err := os.Stat(mark)
	return err == nil
}

// markPolkit lets the account's lines of polkit's service leave a mark.
func markPolkit(t *testing.T, b *board) (mark string) {
	t.Helper()
	mark = filepath.Join(t.TempDir(), "authenticated")
	file := filepath.Join(b.dir, "polkit-1")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(text, "account optional pam_exec.so quiet /bin/touch "+mark+"\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return mark
}

// underLimits returns the limits under which carol became alice, by su and by polkit's helper.
func underLimits(t *testing.T, b *board) (bySu, byPolkit []string) {
	t.Helper()
	mark := markPolkit(t, b)
	for _, limit := range limits {
		if suEnters(t, limit) {
			bySu = append(bySu, limit)
		}
		if polkitEnters(t, mark, limit) {
			byPolkit = append(byPolkit, limit)
		}
	}
	return bySu, byPolkit
}

// TestLimitsOpenNoDoor: where a card is demanded, and there is none, nobody gets in by alice's password, however
// little the caller leaves to su and to polkit's helper: setuid programs inherit limits.
func TestLimitsOpenNoDoor(t *testing.T) {
	withPassword(t, password)
	reader := newReader(t)
	for _, stack := range []string{groupStack, onlyStack} {
		t.Run(stack, func(t *testing.T) {
			b := withStack(t, stack)
			reader.configure(t, b, situation{script: []string{"absent"}})
			if bySu, byPolkit := underLimits(t, b); len(bySu)+len(byPolkit) > 0 {
				t.Errorf("let in without a card: by su with %q, by polkit's helper with %q", bySu, byPolkit)
			}
		})
	}

	// The same with what must not stand there, to see that the test would see it. The module itself is
	// so small that no limit keeps libpam from loading it and leaves the rest: it is missing here.
	t.Run("with module_unknown=ignore", func(t *testing.T) {
		b := withStack(t, groupStack)
		b.edit(t, func(text string) string {
			text = strings.ReplaceAll(text, "pam_pkcs11.so", "pam_pkcs11.missing.so")
			return strings.Replace(text, "ignore=ignore default=die", "module_unknown=ignore default=die", 1)
		})
		reader.configure(t, b, situation{script: []string{"absent"}})
		bySu, byPolkit := underLimits(t, b)
		t.Logf("let in without a card: by su with %q, by polkit's helper with %q", bySu, byPolkit)
		if len(bySu) == 0 || len(byPolkit) == 0 {
			t.Errorf("nobody was let in where the module is missing and that is ignored")
		}
	})
}
