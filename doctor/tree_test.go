package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/probe"
)

// TestMain: this program is also the child in which libraries and cards are looked at.
func TestMain(m *testing.M) {
	if code, ok := probe.Main(os.Args); ok {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// tree is the files of a made machine, below a directory with a short name, which sockets need.
type tree struct {
	t   *testing.T
	dir string
}

func newTree(t *testing.T) *tree {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tr := &tree{t: t, dir: dir}
	tr.mkdir("/etc")
	return tr
}

func (tr *tree) mkdir(path string) {
	tr.t.Helper()
	if err := os.MkdirAll(filepath.Join(tr.dir, path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
}

// put writes a file, and the directories above it.
func (tr *tree) put(path, text string) string {
	tr.t.Helper()
	tr.mkdir(filepath.Dir(path))
	at := filepath.Join(tr.dir, path)
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		tr.t.Fatal(err)
	}
	return at
}

// chmod sets a mode, whatever the umask.
func (tr *tree) chmod(path string, mode os.FileMode) {
	tr.t.Helper()
	if err := os.Chmod(filepath.Join(tr.dir, path), mode); err != nil {
		tr.t.Fatal(err)
	}
}

// configure writes the configuration; DIR in it is the directory of the tree.
func (tr *tree) configure(text string) {
	tr.t.Helper()
	tr.put("/etc/pam_pkcs11/pam_pkcs11.conf", strings.ReplaceAll(text, "DIR", tr.dir))
}

// module writes a configuration of one block and its mappers.
func (tr *tree) module(block, mappers, more string) {
	tr.t.Helper()
	tr.configure(fmt.Sprintf("pam_pkcs11 {\n  use_mappers = %s;\n  use_pkcs11_module = m;\n  pkcs11_module m { %s }\n  %s\n}\n", mappers, block, more))
}

// machine is the machine of the tree.
func (tr *tree) machine() *Machine {
	m := NewMachine(tr.dir, "")
	m.UID = 0
	return m
}

// live is this machine with the configuration of the tree, for checks that run programs.
func (tr *tree) live() *Machine {
	m := NewMachine("", filepath.Join(tr.dir, "/etc/pam_pkcs11/pam_pkcs11.conf"))
	m.UID = 0
	return m
}

// run runs one check by its ID.
func run(t *testing.T, m *Machine, id string) diagnosis.Findings {
	t.Helper()
	if !Known(id) {
		t.Fatalf("there is no check %s", id)
	}
	return Run(context.Background(), m, []string{id})
}

// want is a finding that must be there.
type want struct {
	id       string
	severity diagnosis.Severity
	fact     string // that it says, in part
	remedy   string // in part; "" for none with OK and notes
}

// has looks for a finding.
func (w want) in(t *testing.T, found diagnosis.Findings) diagnosis.Finding {
	t.Helper()
	for _, f := range found {
		if f.ID != w.id {
			continue
		}
		if f.Severity != w.severity || !strings.Contains(f.Fact.String(), w.fact) || !strings.Contains(f.Remedy.String(), w.remedy) ||
			(f.Remedy.Empty() != (f.Severity == diagnosis.OK || f.Severity == diagnosis.Note)) {
			t.Errorf("%+v: %s %s: %s -> %s", w, f.Severity, f.Subject, f.Fact, f.Remedy)
		}
		return f
	}
	t.Errorf("%+v is not in:", w)
	for _, f := range found {
		t.Logf("%s %s %s: %s -> %s", f.ID, f.Severity, f.Subject, f.Fact, f.Remedy)
	}
	return diagnosis.Finding{}
}
