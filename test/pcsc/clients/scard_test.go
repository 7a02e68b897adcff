package clients

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestScard runs the test suite of github.com/ebfe/scard, the Go binding of libpcsclite, and a program with it, from a
// module of their own. The suite skips what it finds no daemon for, and says "ok" then: no line may say so.
func TestScard(t *testing.T) {
	id := newIdentity(t)
	w := ours(t, id)
	w.awaitCard(t)
	out := goTest(t, w, "github.com/ebfe/scard")
	if n := strings.Count(out, "--- PASS"); n < 6 || strings.Contains(out, "SKIP") || strings.Contains(out, "FAIL") {
		t.Errorf("%d tests passed:\n%s", n, out)
	}
	// The virtual reader of vsmartcard has neither features nor a vendor: the suite itself fails with it, the program
	// does not.
	var said [2]string
	for i, w := range []*world{w, stock(t, id)} {
		out := goTest(t, w, ".")
		said[i] = strings.Join(regexp.MustCompile(`(?m)^program: .*$`).FindAllString(out, -1), "\n")
		if !strings.Contains(out, "PASS") || strings.Contains(out, "SKIP") || !strings.Contains(said[i], "program: end") {
			t.Errorf("%s:\n%s", w.name, out)
		}
	}
	if said[0] != said[1] {
		t.Errorf("with ours:\n%s\nwith Debian's pcscd:\n%s", said[0], said[1])
	}
}

// goTest runs the tests of a package in the module of the suite.
func goTest(t *testing.T, w *world, pkg string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", pkg)
	cmd.Dir = "../scardsuite"
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "PCSCLITE_CSOCK_NAME="+w.socket)
	out, _ := cmd.CombinedOutput()
	return string(out)
}
