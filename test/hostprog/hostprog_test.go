//go:build cgo

package hostprog

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// built is what all tests of this package use, made once.
type built struct {
	dir     string
	program string
	err     error
}

var build = sync.OnceValue(func() (b built) {
	b.dir, b.err = os.MkdirTemp("", "pam_pkcs11-hostprog-")
	if b.err != nil {
		return b
	}
	if b.err = os.Chmod(b.dir, 0o755); b.err != nil { // other users run hosts too
		return b
	}
	b.program = filepath.Join(b.dir, "host")
	sources, _ := filepath.Glob("program/*.c")
	args := append([]string{"-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o", b.program}, sources...)
	if b.err = run(nil, "gcc", append(args, "-lpam", "-lpthread")...); b.err != nil {
		b.err = fmt.Errorf("the host program needs the Debian packages gcc and libpam0g-dev: %w", b.err)
		return b
	}
	environment := []string{"TAGS=hosttest", "SETTINGS=-DRELAY_SILENCE=1500"}
	b.err = run(environment, "../../pam/build.sh", filepath.Join(b.dir, "built"))
	return b
})

func run(environment []string, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), environment...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}

func TestMain(m *testing.M) {
	code := m.Run()
	if b := build(); b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
	os.Exit(code)
}

// prepare returns the build and a directory with one PAM service whose module has these arguments.
func prepare(t *testing.T, arguments string) (built, string) {
	t.Helper()
	b := build()
	if b.err != nil {
		t.Fatal(b.err)
	}
	conf, err := os.MkdirTemp(b.dir, "conf-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(b.dir, "built", "pam_pkcs11.so")
	var text strings.Builder
	for _, kind := range []string{"auth", "password"} {
		fmt.Fprintf(&text, "%s required %s %s\n", kind, module, arguments)
	}
	for _, kind := range []string{"account", "session"} {
		fmt.Fprintf(&text, "%s optional %s\n%s required pam_permit.so\n", kind, module, kind)
	}
	// Without a service "other" libpam says so in the system's log, where there is one, and keeps that open: one descriptor
	// more in the host, which is not the module's.
	other := "auth required pam_deny.so\naccount required pam_deny.so\npassword required pam_deny.so\nsession required pam_deny.so\n"
	for name, lines := range map[string]string{"hostprog": text.String(), "other": other} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(lines), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b, conf
}

// ended is how a host ended: its exit status, or 256 and a signal.
func ended(err error, state *os.ProcessState) int {
	if state == nil {
		return -1
	}
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 256 + int(w.Signal())
	}
	return state.ExitCode()
}

type scenario struct {
	label     string
	name      string // of the program
	argument  string
	arguments string // of the module
	want      int    // how the host ends
	root      bool   // can only be tried as root
}

// scenarios are those of the experiments that chose the process model, and what was added since.
func scenarios() []scenario {
	return []scenario{
		{label: "an authentication", name: "basic"},
		{label: "a wrong PIN", name: "wrong_pin", argument: "7"},
		{label: "no user given", name: "without_user"},
		{label: "a refusal sets nothing", name: "refused_leaves_nothing"},
		{label: "a user of 5000 characters", name: "long_user", argument: "9"},
		{label: "PAM_IGNORE before any prompt", name: "expect", argument: "25", arguments: "ignore", want: -2},
		{label: "PAM_IGNORE after a prompt", name: "expect", argument: "9", arguments: "ignore_after_prompt"},
		{label: "an announced wait", name: "basic", arguments: "wait"},
		{label: "conversation fails", name: "conversation_fails", argument: "8"},
		{label: "conversation without response array", name: "conversation_without_array", argument: "8"},
		{label: "conversation without string", name: "conversation_without_string", argument: "8"},
		{label: "an answer of 513 bytes", name: "answer_of_513", argument: "8"},
		{label: "an answer of 1 MiB", name: "answer_of_1_MiB", argument: "8"},
		{label: "PIN change, refused", name: "change", argument: changeRefused()},
		{label: "PIN change, worker crashes before a prompt", name: "change", argument: "20", arguments: "segv"},
		{label: "credentials, account, session", name: "other_functions"},

		{label: "fork after pam_start, authentication in the child", name: "fork_after_start"},
		{label: "the same with 8 children", name: "fork8"},
		{label: "authentication, fork, authentication in both", name: "auth_fork_auth"},
		{label: "authentication, 8 forks", name: "auth_fork8"},
		{label: "authentication and end, fork, all again in the child", name: "end_fork_start"},
		{label: "authentication, double fork with setsid", name: "grandchild"},
		{label: "start, fork, setcred in the child", name: "start_fork_setcred"},
		{label: "authentication, fork, setcred and session in the child", name: "session_in_child"},
		{label: "100 authentications", name: "loop", argument: "100", arguments: "quick"},
		{label: "200 times pam_start and pam_end", name: "loop_start", argument: "200"},
		{label: "longjmp out of the conversation", name: "long_jump"},
		{label: "exec after an authentication", name: "exec_after"},

		{label: "SIGALRM every 0.5 ms, handler before pam_start", name: "tick"},
		{label: "the same with 6 KiB of stack", name: "tick", argument: "1"},
		{label: "SIGALRM every 0.5 ms, handler after an authentication", name: "tick_late"},
		{label: "the same late with 6 KiB of stack", name: "tick_late", argument: "1"},
		{label: "SIGALRM without SA_RESTART", name: "tick_without_restart"},
		{label: "SIGALRM runs on the host's stack", name: "tick_where"},
		{label: "alarm handler exits, library hung", name: "alarm_exits", arguments: "hang", want: 61},
		{label: "alarm handler exits at the prompt", name: "alarm_exits", argument: "3000", want: 61},
		{label: "alarm handler jumps out of the prompt", name: "alarm_jumps"},
		{label: "SIGPIPE default is kept", name: "pipe_default", want: 256 + 13},
		{label: "SIGPIPE ignored before", name: "pipe_ignored"},
		{label: "SIGPIPE ignored after pam_start", name: "pipe_ignored", argument: "1"},
		{label: "SIGPIPE handled", name: "pipe_handled"},
		{label: "SIGCHLD ignored", name: "child_ignored"},
		{label: "SIGCHLD handler that reaps everything", name: "child_stolen"},
		{label: "the host's own child is seen once", name: "own_child"},
		{label: "a subreaper", name: "reaper", argument: "0"},
		{label: "a subreaper, and the library crashes", name: "reaper", argument: "9", arguments: "segv"},
		{label: "a subreaper, and the library hangs", name: "reaper", argument: "9", arguments: "hang"},
		{label: "the first process of a namespace", name: "first_process", argument: "0", root: true},
		{label: "the first process of a namespace, and the library exits", name: "first_process", argument: "9", arguments: "exit", root: true},
		{label: "signal dispositions and alternate stack", name: "dispositions"},
		{label: "all signals blocked", name: "mask"},
		{label: "SIGSEGV of the host after pam_start", name: "segv", argument: "0", want: 256 + 11},
		{label: "SIGSEGV of the host after an authentication", name: "segv", argument: "1", want: 256 + 11},
		{label: "SIGSEGV handler of the host", name: "segv", argument: "2", want: 62},
		{label: "SIGSEGV in a forked child", name: "segv", argument: "3"},
		{label: "SIGTERM at the prompt", name: "terminated"},

		{label: "RLIMIT_AS 64 MiB", name: "address_space", argument: "64"},
		{label: "RLIMIT_AS 128 MiB", name: "address_space", argument: "128"},
		{label: "RLIMIT_AS 256 MiB", name: "address_space", argument: "256"},
		{label: "RLIMIT_AS 1 GiB", name: "address_space", argument: "1024"},
		{label: "RLIMIT_AS 64 MiB after pam_start", name: "address_space_late", argument: "64"},
		{label: "RLIMIT_NPROC 1 for another user", name: "processes", argument: "1", root: true},
		{label: "RLIMIT_NPROC 4 for another user", name: "processes", argument: "4", root: true},
		{label: "RLIMIT_NOFILE 5", name: "open_files", argument: "5"},
		{label: "RLIMIT_NOFILE 6", name: "open_files", argument: "6"},
		{label: "RLIMIT_NOFILE 8", name: "open_files", argument: "8"},
		{label: "RLIMIT_NOFILE 16", name: "open_files", argument: "16"},
		{label: "RLIMIT_FSIZE 0", name: "file_size", argument: "0"},
		{label: "RLIMIT_CPU 5", name: "cpu_time", argument: "5"},
		{label: "the worker has its own limits, not the host's", name: "host_limits", arguments: "limits", root: true},
		{label: "another user", name: "other_user", root: true},
		{label: "seteuid around an authentication", name: "effective_user", root: true},
		{label: "setresuid after an authentication", name: "identity_after", root: true},
		{label: "capset after an authentication", name: "capabilities_after", root: true},
		{label: "raw setresuid, then glibc's", name: "raw_identity", root: true},
		{label: "unshare and setns after an authentication", name: "namespaces", root: true},
		{label: "seccomp denies execve", name: "denied_exec"},
		{label: "seccomp denies clone", name: "denied_clone"},
		{label: "PR_SET_MDWE", name: "no_executable_memory"},
		{label: "closefrom(3) between two authentications", name: "close_from"},
		{label: "closefrom(3) and new descriptors in their place", name: "close_from", argument: "1"},
		{label: "standard input, output and error closed", name: "without_stdio"},

		{label: "threads, descriptors and memory", name: "footprint"},
		{label: "PIN left in the host", name: "pin_left"},
		{label: "PIN left in the host, forwarded to nobody", name: "pin_left", argument: "1", arguments: "ignore_after_prompt"},
		{label: "no worker after a success", name: "worker_gone", argument: "0"},
		{label: "no worker after a hang", name: "worker_gone", argument: "9", arguments: "hang"},
		{label: "host killed at the prompt: SIGKILL", name: "killed", argument: "9"},
		{label: "host killed at the prompt: SIGINT", name: "killed", argument: "2"},
		{label: "host killed at the prompt: SIGHUP", name: "killed", argument: "1"},

		{label: "8 threads at once, five times", name: "at_once", argument: "5", arguments: "quick"},
		{label: "thread stacks of 64 KiB", name: "small_stack", argument: "64"},
		{label: "4 threads, SIGCHLD handler is kept", name: "child_handler_kept", argument: "700"},
		{label: "3 threads authenticate while 40 children are forked", name: "forks_beside", argument: "40", arguments: "quick"},
		{label: "thread cancelled at its prompt", name: "cancelled"},

		{label: "library: SIGSEGV", name: "expect", argument: "9", arguments: "segv"},
		{label: "library: abort", name: "expect", argument: "9", arguments: "abort"},
		{label: "library: exit", name: "expect", argument: "9", arguments: "exit"},
		{label: "library: hangs", name: "expect", argument: "9", arguments: "hang"},
		{label: "a nil pointer that the worker survives", name: "basic", arguments: "nil_pointer"},
		{label: "panic in the call", name: "expect", argument: "9", arguments: "panic"},
		{label: "panic in another goroutine", name: "expect", argument: "9", arguments: "panic_in_goroutine"},
		{label: "stack overflow", name: "expect", argument: "9", arguments: "stack_overflow"},
	}
}

// changeRefused is what passwd hears of a change that the stand-in refuses. For root acting for alice the module has no
// opinion, which libpam makes PAM_PERM_DENIED when nobody else has one.
func changeRefused() string {
	if os.Getuid() == 0 {
		return "6"
	}
	return "20"
}

// play runs one scenario in a process of its own.
func play(t *testing.T, s scenario) {
	b, conf := prepare(t, s.arguments)
	if s.root && os.Getuid() != 0 {
		return // needs root to become another user; the same host as this user is "an authentication"
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	argument := s.argument
	if argument == "" {
		argument = "0"
	}
	c := exec.CommandContext(ctx, b.program, s.name, conf, argument)
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	got := ended(c.Run(), c.ProcessState)
	want := s.want
	if want == -2 { // libpam turns PAM_IGNORE of the only module into PAM_PERM_DENIED; the host says "other than 25"
		want = 1
		if !strings.Contains(out.String(), "auth=6") {
			got = -3
		}
	}
	if got != want || ctx.Err() != nil {
		t.Errorf("host ended with %d, want %d (time out: %v): %s", got, want, ctx.Err() != nil, out.String())
		return
	}
	t.Log(out.String())
}

func TestHosts(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.label, func(t *testing.T) {
			if s.name != "worker_gone" && s.name != "killed" { // those count the workers of this build
				t.Parallel() // the others wait more than they work
			}
			play(t, s)
		})
	}
}

// TestSetuidHost: su and sudo run with AT_SECURE and the caller's environment and limits.
func TestSetuidHost(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can make a set-uid program
	}
	b, conf := prepare(t, "")
	program := filepath.Join(b.dir, "host-setuid")
	if err := run(nil, "install", "-m", "4755", b.program, program); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "secure", conf)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1777, Gid: 1777}}
	c.Env = []string{"GODEBUG=rsa1024min=0", "GOGC=off", "LD_PRELOAD=/nonexistent.so", "TZ=:/etc/shadow", "LANGUAGE=../../x", "OPENSC_CONF=/tmp/x"}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

// TestWhatIsExported: another name would clash with what a host, a PKCS#11 library or another module exports.
func TestWhatIsExported(t *testing.T) {
	b := build()
	if b.err != nil {
		t.Fatal(b.err)
	}
	for library, want := range map[string]string{
		"pam_pkcs11.so": "pam_sm_acct_mgmt pam_sm_authenticate pam_sm_chauthtok pam_sm_close_session pam_sm_open_session " +
			"pam_sm_setcred",
		"pam_pkcs11_worker.so": "pam_pkcs11_worker_main",
	} {
		out, err := exec.Command("nm", "-D", "--defined-only", filepath.Join(b.dir, "built", library)).Output()
		if err != nil {
			t.Fatalf("nm is of the Debian package binutils: %v", err)
		}
		var names []string
		for line := range strings.Lines(string(out)) {
			f := strings.Fields(line)
			names = append(names, f[len(f)-1])
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s exports %s", library, got)
		}
	}
}

// TestTheHostLoadsCAlone: what a host loads has nothing of Go, needs the C library alone, and cannot be rewritten once it
// is linked: all of it is bound at once, and nobody unloads it.
func TestTheHostLoadsCAlone(t *testing.T) {
	b := build()
	if b.err != nil {
		t.Fatal(b.err)
	}
	module, err := elf.Open(filepath.Join(b.dir, "built", "pam_pkcs11.so"))
	if err != nil {
		t.Fatal(err)
	}
	defer module.Close()

	for _, s := range module.Sections {
		if slices.Contains([]string{".gopclntab", ".go.buildinfo", ".note.go.buildid"}, s.Name) {
			t.Errorf("it has the section %s", s.Name)
		}
	}
	if s := module.Section(".data.rel.ro"); s != nil && s.Size > 64<<10 {
		t.Errorf("%d octets are relocated at each load", s.Size)
	}
	libraries, err := module.ImportedLibraries()
	if err != nil || len(libraries) != 1 || !strings.HasPrefix(libraries[0], "libc.") {
		t.Errorf("it needs %q, %v", libraries, err)
	}
	flags, err := module.DynValue(elf.DT_FLAGS_1)
	want := elf.DF_1_NOW | elf.DF_1_NODELETE
	if err != nil || len(flags) != 1 || elf.DynFlag1(flags[0])&want != want {
		t.Errorf("its flags are %v, %v, want %v", flags, err, want)
	}
	if !slices.ContainsFunc(module.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_GNU_RELRO }) {
		t.Error("its relocations stay writable")
	}
}

// TestUntrustworthyWorker: a worker that others may write, or that is not there, is not run; nor is one whose library is
// so.
func TestUntrustworthyWorker(t *testing.T) {
	b := build()
	if b.err != nil {
		t.Fatal(b.err)
	}
	refused := scenario{name: "expect", argument: "9"}
	for name, modes := range map[string][]os.FileMode{
		"pam_pkcs11_worker":    {0o775, 0o757, 0o644},
		"pam_pkcs11_worker.so": {0o664, 0o646},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(b.dir, "built", name)
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, mode := range modes {
				if err := os.Chmod(path, mode); err != nil {
					t.Fatal(err)
				}
				play(t, refused)
			}
			if err := os.Chmod(path, before.Mode()); err != nil {
				t.Fatal(err)
			}
			untrustworthyOwner(t, path)

			away := path + ".away"
			if err := os.Rename(path, away); err != nil {
				t.Fatal(err)
			}
			play(t, refused)
			if err := os.Symlink(away, path); err != nil {
				t.Fatal(err)
			}
			play(t, refused)
			if err := os.Rename(away, path); err != nil {
				t.Fatal(err)
			}
			play(t, scenario{name: "basic"})
		})
	}
}

// untrustworthyOwner gives a file of the worker's to another user for a while.
func untrustworthyOwner(t *testing.T, path string) {
	t.Helper()
	if os.Getuid() != 0 {
		return // only root can give a file away
	}
	if err := os.Chown(path, 1777, -1); err != nil {
		t.Fatal(err)
	}
	play(t, scenario{name: "expect", argument: "9"})
	if err := os.Chown(path, 0, -1); err != nil {
		t.Fatal(err)
	}
}
