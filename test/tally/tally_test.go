package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// told runs the events through a tally and returns what it writes.
func told(t *testing.T, events string) (string, bool) {
	t.Helper()
	var out strings.Builder
	y := newTally(&out)
	if err := y.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	y.close()
	return out.String(), y.bad()
}

// TestEvents reads what go test writes of tests that pass, fail, skip, and of packages that end in other ways.
func TestEvents(t *testing.T) {
	for name, tt := range map[string]struct {
		events string
		want   string // of the output, in this order, a line each
		bad    bool
	}{
		"a package that passed": {`
{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":1}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t1.5s\n"}
{"Action":"pass","Package":"p","Elapsed":1.5}`, `ok  	p	1.5s
slowest packages:
       1.5s  p
1 passed, 0 failed, 0 skipped (with subtests; packages: 1)
`, false},
		"a test that failed beside one that was skipped": {`
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    wrong\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p","Elapsed":0.1}`, `    wrong
FAIL	p	0.1s
skipped:
  p TestB
slowest packages:
       0.1s  p
failed:
  p
0 passed, 1 failed, 1 skipped (with subtests; packages: 1)
`, true},
		"a package that was killed": {`
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: test timed out\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t600s\n"}
{"Action":"fail","Package":"p","Elapsed":600}`, `panic: test timed out
FAIL	p	600s
slowest packages:
     600.0s  p
failed:
  p
0 passed, 1 failed, 0 skipped (with subtests; packages: 1)
`, true},
		"a package that could not be built": {`
{"Action":"build-output","ImportPath":"p","Output":"p.go:1: no\n"}
{"Action":"build-fail","ImportPath":"p"}
go: something else`, `p.go:1: no
go: something elseslowest packages:
failed:
  p
0 passed, 0 failed, 0 skipped (with subtests; packages: 0)
`, true},
		"nothing at all": {"", `slowest packages:
0 passed, 0 failed, 0 skipped (with subtests; packages: 0)
`, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, bad := told(t, strings.TrimPrefix(tt.events, "\n"))
			if got != tt.want || bad != tt.bad {
				t.Errorf("bad %v, want %v; said:\n%s\nwant:\n%s", bad, tt.bad, got, tt.want)
			}
		})
	}
}

// TestGoTest reads the events of the installed go.
func TestGoTest(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example\n",
		"a_test.go": `package a
import "testing"
func TestPass(t *testing.T) { t.Run("sub", func(t *testing.T) {}) }
func TestFail(t *testing.T) { t.Error("wrong") }
func TestSkip(t *testing.T) { t.Skip("no") }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-json", ".")
	cmd.Dir = dir
	events, _ := cmd.Output() // ends with 1: a test fails

	got, bad := told(t, string(events))

	if !bad || !strings.Contains(got, "a_test.go:4: wrong\n") ||
		!strings.HasSuffix(got, "\n2 passed, 1 failed, 1 skipped (with subtests; packages: 1)\n") {
		t.Errorf("bad %v:\n%s", bad, got)
	}
}

// TestEveryRunHasItsTimeout: a busy machine needs more than the ten minutes that go test allows where nothing is said.
func TestEveryRunHasItsTimeout(t *testing.T) {
	text, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	runs := regexp.MustCompile(`\$\(GO\) test [^\n]*(\\\n[^\n]*)*`).FindAllString(string(text), -1)
	if len(runs) < 5 {
		t.Fatalf("only %d runs of go test in the Makefile", len(runs))
	}
	for _, run := range runs {
		if !strings.Contains(run, "-timeout ") && !strings.Contains(run, " test -c ") {
			t.Errorf("no -timeout: %s", run)
		}
	}
}
