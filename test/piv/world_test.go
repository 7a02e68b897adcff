package piv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// simulation and daemon are built once: pcscd with simulated readers, and pcscd as it is.
var (
	simulation = sync.OnceValues(func() (string, error) { return build("pcscd-sim") })
	daemon     = sync.OnceValues(func() (string, error) { return build("pcscd") })
)

func build(name string) (string, error) {
	file := filepath.Join(buildDir, name)
	out, err := exec.Command("go", "build", "-o", file, "pam_pkcs11/cmd/"+name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building %s: %w: %s", name, err, out)
	}
	return file, nil
}

// buildDir is made and removed by TestMain.
var buildDir string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if buildDir, err = os.MkdirTemp("", "pam_pkcs11-piv-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(buildDir)
		return m.Run()
	}())
}

// patience is how long a program may take on a loaded machine before the test gives up on it.
const patience = 2 * time.Minute

// world is a daemon with a card in it, and a directory for its clients.
type world struct {
	t   *testing.T
	dir string
}

// newWorld starts a daemon with the readers that are named ("sim:piv").
func newWorld(t *testing.T, program func() (string, error), readers string) *world {
	t.Helper()
	for _, tool := range []string{"opensc-tool", "pkcs11-tool", "pkcs15-tool", "piv-tool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal("the package opensc is missing: ", err)
		}
	}
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "piv-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{t: t, dir: dir}
	w.start(file, readers)
	return w
}

// start runs the daemon until the test ends. The pipe ends when it is ready, or when it is dead.
func (w *world) start(file, readers string) {
	w.t.Helper()
	ready, end, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer ready.Close()
	var log bytes.Buffer
	cmd := exec.Command(file, "--foreground", "--disable-polkit", "--socket", w.path("s"), "--readers", readers)
	cmd.Env = append(os.Environ(), "PCSCD_READY_FD=1")
	cmd.ExtraFiles = []*os.File{end}
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	end.Close()
	w.t.Cleanup(func() {
		err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait())
		if err != nil || w.t.Failed() {
			w.t.Logf("daemon: %v\n%s", err, log.String())
		}
	})
	if err := ready.SetReadDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	if _, err := ready.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatal("the daemon is not ready")
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name string, content []byte) string {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), content, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	b, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// environment is what a client of the daemon needs: nothing of the caller's configuration of OpenSC.
func (w *world) environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "LC_ALL=C", "PCSCLITE_CSOCK_NAME=" + w.path("s"),
		"PIV_EXT_AUTH_KEY=" + w.path("admin"),
	}
}

// try runs a program and returns all it says.
func (w *world) try(name string, args ...string) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = w.environment()
	cmd.Dir = w.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run is try for a program that must do well.
func (w *world) run(name string, args ...string) string {
	w.t.Helper()
	out, err := w.try(name, args...)
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// says runs a program and looks for words in what it says.
func (w *world) says(words, name string, args ...string) {
	w.t.Helper()
	if out := w.run(name, args...); !strings.Contains(out, words) {
		w.t.Errorf("%s %s does not say %q:\n%s", name, strings.Join(args, " "), words, out)
	}
}

// refused runs a program that must fail and say why.
func (w *world) refused(words, name string, args ...string) {
	w.t.Helper()
	out, err := w.try(name, args...)
	if err == nil || !strings.Contains(out, words) {
		w.t.Errorf("%s %s: %v, does not say %q:\n%s", name, strings.Join(args, " "), err, words, out)
	}
}
