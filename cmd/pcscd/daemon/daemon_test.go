package daemon

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

// The test binary is the daemon itself when asked to, so that its life as a process can be looked at.
func TestMain(m *testing.M) {
	if os.Getenv("PCSCD_TEST_RUN") != "" {
		p := program(os.Args[1:]...)
		p.Stdout, p.Stderr, p.Env = os.Stdout, os.Stderr, os.Getenv
		os.Exit(p.Run(context.Background()))
	}
	goleak.VerifyTestMain(m)
}

func program(args ...string) *Program {
	return &Program{
		Name: "pcscd", Args: args, Env: func(string) string { return "" }, Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer),
		Readers: []Readers{{Name: "fake", Usage: "fake:NAME", Plug: func(ctx context.Context, m *resmgr.Manager, argument string, _ *slog.Logger) (<-chan error, error) {
			slot := pcsctest.NewSlot(true)
			slot.Insert(&pcsctest.EchoCard{})
			return resmgr.Plug(ctx, m, pcsctest.NewDriver(pcsctest.Reader{ID: "1", Product: "Fake" + argument, Slots: []*pcsctest.Slot{slot}})), nil
		}}},
		Default: "fake",
	}
}

func TestCommandLine(t *testing.T) {
	for _, row := range []struct {
		args string
		want options
		err  string
	}{
		{args: "", want: options{}},
		{args: "-f -x --apdu", want: options{foreground: true, autoExit: true, apdu: true}},
		{args: "-fxa", want: options{foreground: true, autoExit: true, apdu: true}},
		{args: "-t 7 -s8 --max-card-handle-per-reader=9", want: options{maxThread: 7, perThread: 8, perReader: 9}},
		{args: "-IS", want: options{names: resmgr.NameOptions{NoInterface: true, NoSerial: true}}},
		{args: "--force-reader-polling --force-reader-polling=5 --disable-polkit", want: options{noPolkit: true}},
		{args: "--socket /x --readers fake:a,fake:b --readers fake", want: options{socket: "/x", readers: []string{"fake:a", "fake:b", "fake"}}},
		{args: "-c /y", want: options{config: "/y"}},
		{args: "--bogus", err: "unknown option --bogus"},
		{args: "-z", err: "unknown option -z"},
		{args: "-t", err: "needs an argument"},
		{args: "-t none", err: "is not a number"},
		{args: "-t 0", err: "is not a number"},
		{args: "--apdu=yes", err: "takes no argument"},
		{args: "word", err: `"word" is not an option`},
		{args: "-- word", err: `"word" is not an option`},
		{args: "--foreground --readers bogus", err: "there are fake:NAME"},
		{args: "--foreground --readers fak", err: "there are fake:NAME"},
		{args: "--readers fake", err: "needs --foreground"},
	} {
		t.Run(row.args, func(t *testing.T) {
			o, err := parseOptions(strings.Fields(row.args))
			if err == nil {
				err = o.check([]string{"fake:NAME"})
			}
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("%v, want %s", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			w := row.want
			w.level = slog.LevelWarn
			for _, p := range []*int{&w.maxThread, &w.perThread, &w.perReader} {
				if *p == 0 {
					*p = 200
				}
			}
			if o.foreground != w.foreground || o.autoExit != w.autoExit || o.apdu != w.apdu || o.maxThread != w.maxThread ||
				o.perThread != w.perThread || o.perReader != w.perReader || o.noPolkit != w.noPolkit || o.socket != w.socket ||
				o.config != w.config || !slices.Equal(o.readers, w.readers) || o.names.NoInterface != w.names.NoInterface ||
				o.names.NoSerial != w.names.NoSerial {
				t.Errorf("%+v, want %+v", *o, w)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	o := &options{}
	o.environment(func(name string) string {
		return map[string]string{"PCSCLITE_FILTER_IGNORE_READER_NAMES": "Foo::Bar Baz", "PCSCLITE_FILTER_EXTEND_READER_NAMES": " X"}[name]
	})
	if !slices.Equal(o.names.Ignore, []string{"Foo", "Bar Baz"}) || o.names.Extend != " X" {
		t.Errorf("%+v", o.names)
	}
}

func TestExitCodes(t *testing.T) {
	directory := t.TempDir()
	bad := filepath.Join(directory, "bad.conf")
	os.WriteFile(bad, []byte("# rules\nallow = everybody\n"), 0o600)
	open := filepath.Join(directory, "open.conf")
	os.WriteFile(open, nil, 0o600)
	os.Chmod(open, 0o666)
	file := filepath.Join(directory, "file")
	os.WriteFile(file, nil, 0o600)
	for _, row := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"help", []string{"-h"}, 0, ""},
		{"version", []string{"-v"}, 0, ""},
		{"unknown option", []string{"--bogus"}, 2, "unknown option"},
		{"error in the configuration", []string{"-f", "-c", bad, "--socket", filepath.Join(directory, "s")}, 78, bad + ":2:"},
		{"a configuration that everybody may write", []string{"-f", "-c", open}, 78, open + ": "},
		{"no such configuration", []string{"-f", "-c", "/no/such/file"}, 78, "no such file"},
		{"something else at the socket's place", []string{"--socket", file}, 1, "is not a socket"},
		{"a path that is too long", []string{"--socket", "/" + strings.Repeat("x", 108)}, 1, "107 bytes"},
		{"a directory that is not there", []string{"--socket", directory + "/no/s"}, 1, "no such file"},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := program(row.args...)
			code := p.Run(context.Background())
			if code != row.code || !strings.Contains(p.Stderr.(*bytes.Buffer).String(), row.says) {
				t.Errorf("exit code %d: %s", code, p.Stderr)
			}
		})
	}
}

func TestExampleOfTheConfiguration(t *testing.T) {
	rules, err := readRules(&options{config: "../../../packaging/pcscd.conf.example"})
	if err != nil || rules.Allow != server.AllowLocal || rules.Polkit || rules.ReaderStates != 16 {
		t.Errorf("%+v %v", rules, err)
	}
}

func TestPrivateDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "comm")
	stale, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	unix.Bind(stale, &unix.SockaddrUnix{Name: socket})
	unix.Close(stale) // nobody listens there any more
	ready := make(chan struct{})
	p := program("--foreground", "--socket", socket, "--readers", "fake: Reader", "--auto-exit")
	p.Ready = func() { close(ready) }
	p.AutoExit = time.Second // for the first client to come, on a machine that is busy
	code := make(chan int, 1)
	go func() { code <- p.Run(context.Background()) }()
	<-ready
	c, err := pcsc.NewContext(pcsc.NewClient(socket))
	if err != nil {
		t.Fatal(err)
	}
	names, err := c.ListReaders()
	if err != nil || !slices.Equal(names, []string{"Fake Reader 00 00"}) {
		t.Errorf("%q %v", names, err)
	}
	if other := program("--socket", socket).Run(context.Background()); other != 1 {
		t.Errorf("a second daemon at the same socket ends with %d", other)
	}
	select {
	case <-code:
		t.Fatal("the daemon ends with a client connected")
	case <-time.After(2 * time.Second):
	}
	c.Release()
	select {
	case got := <-code:
		if got != 0 {
			t.Errorf("exit code %d: %s", got, p.Stderr)
		}
	case <-time.After(time.Minute):
		t.Fatal("no auto-exit")
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// inNamespace is this test binary as the daemon, with a /run of its own: its pid file and socket are at the places
// that are compiled in, and meet no other daemon's. directory becomes /run/pcscd.
func inNamespace(t *testing.T, directory, shell string, args ...string) *exec.Cmd {
	t.Helper()
	unshare := []string{"--mount"}
	if os.Geteuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	script := `mount -t tmpfs none /run && mkdir /run/pcscd && mount --bind "$0" /run/pcscd && ` + shell
	cmd := exec.Command("unshare", append(append(unshare, "sh", "-c", script, directory, os.Args[0]), args...)...)
	cmd.Env = append(os.Environ(), "PCSCD_TEST_RUN=1")
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// rulesFor lets everybody in.
func rulesFor(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "conf")
	if err := os.WriteFile(file, []byte("allow = all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// runDirectory is short, for the sockets in it.
func newRunDirectory(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "pcscd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	return directory
}

func awaitContext(t *testing.T, socket string) *pcsc.Context {
	t.Helper()
	var c *pcsc.Context
	slowtest.Until(t, "a daemon at "+socket, func() bool {
		var err error
		c, err = pcsc.NewContext(pcsc.NewClient(socket))
		return err == nil
	})
	return c
}

// systemd passes the socket as descriptor 3; SIGTERM is a clean end, and the socket stays.
func TestSocketActivationAndSignals(t *testing.T) {
	directory := newRunDirectory(t)
	socket := filepath.Join(directory, "pcscd.comm")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var stderr bytes.Buffer
	cmd := inNamespace(t, directory, `LISTEN_PID=$$ exec "$@"`, "--foreground", "--auto-exit", "-c", rulesFor(t))
	cmd.Env = append(cmd.Env, "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	c, err := pcsc.NewContext(pcsc.NewClient(socket)) // the connection waits in the socket until the daemon is there
	if err != nil {
		t.Fatal(err)
	}
	names, err := c.ListReaders()
	if err != nil || len(names) != 1 {
		t.Fatalf("the first question of a daemon that was started for it: %q %v", names, err)
	}
	text, err := os.ReadFile(filepath.Join(directory, "pcscd.pid"))
	if err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("pid file: %q %v", text, err)
	}
	for _, s := range []os.Signal{unix.SIGHUP, unix.SIGPIPE, unix.SIGUSR1} {
		cmd.Process.Signal(s)
		if _, err := c.ListReaders(); err != nil {
			t.Errorf("after %v: %v", s, err)
		}
	}
	cmd.Process.Signal(unix.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if _, err := os.Stat(socket); err != nil {
		t.Errorf("systemd's socket: %v", err)
	}
	if _, err := os.Stat(filepath.Join(directory, "pcscd.pid")); !os.IsNotExist(err) {
		t.Errorf("the pid file is left: %v", err)
	}
}

// The daemon in the background: it is ready when its starter ends; a second one is refused; -H reaches it; a pid file that
// a killed one left is no hindrance.
func TestInTheBackground(t *testing.T) {
	directory := newRunDirectory(t)
	socket := filepath.Join(directory, "pcscd.comm")
	script := `
"$@" -c "$RULES" || exit 10
pid=$(cat /run/pcscd/pcscd.pid)
"$@" -c "$RULES" 2>/run/pcscd/second; [ $? = 1 ] || exit 11
grep -q "running already, with pid $pid" /run/pcscd/second || exit 12
"$@" --hotplug || exit 13
kill -9 "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
[ -e /run/pcscd/pcscd.pid ] && [ -S /run/pcscd/pcscd.comm ] || exit 14
"$@" --hotplug 2>/dev/null && exit 15
"$@" -c "$RULES" || exit 16
touch /run/pcscd/ready
while [ ! -e /run/pcscd/end ]; do sleep 0.01; done
pid=$(cat /run/pcscd/pcscd.pid)
kill "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
[ ! -e /run/pcscd/pcscd.pid ] && [ ! -e /run/pcscd/pcscd.comm ] || exit 17`
	var said bytes.Buffer
	cmd := inNamespace(t, directory, "true"+script)
	cmd.Env = append(cmd.Env, "RULES="+rulesFor(t))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := os.Stat(filepath.Join(directory, "ready")); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("%v: %s", err, said.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	c := awaitContext(t, socket)
	if names, err := c.ListReaders(); err != nil || len(names) != 1 {
		t.Errorf("%q %v", names, err)
	}
	c.Release()
	os.WriteFile(filepath.Join(directory, "end"), nil, 0o600)
	if err := <-ended; err != nil {
		t.Errorf("%v: %s", err, said.String())
	}
}

// TestPIDFile: a pid file is read whoever wrote it.
func TestPIDFile(t *testing.T) {
	for text, want := range map[string]int{
		"123\n": 123, "123": 123, "123\n\x00": 123, "123\x00": 123, "123\x00\x00\x00garbage": 123, " 123 \n": 123,
		"": 0, "\x00": 0, "1\n": 0, "-5\n": 0, "12x\n": 0, "12 34\n": 0, "99999999999999999999": 0,
	} {
		if got, err := parsePID([]byte(text)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

// TestAnothersFiles: the daemon removes no socket and no pid file that another has made in the place of its own, and a
// daemon that cannot have the socket does not touch the pid file.
func TestAnothersFiles(t *testing.T) {
	directory := newRunDirectory(t)
	script := `
"$@" -f -c "$RULES" & pid=$!
while [ ! -S /run/pcscd/pcscd.comm ] || [ ! -e /run/pcscd/pcscd.pid ]; do sleep 0.01; done
printf '%s\n\0' $pid > /run/pcscd/pcscd.pid
"$@" --hotplug || exit 10
"$@" -f -c "$RULES" 2>/run/pcscd/second && exit 11
[ "$(tr -d '\0' < /run/pcscd/pcscd.pid)" = $pid ] || exit 12
grep -q "running already, with pid $pid" /run/pcscd/second || exit 13
rm /run/pcscd/pcscd.comm; touch /run/pcscd/pcscd.comm; echo 4242 > /run/pcscd/pcscd.pid
kill $pid; wait $pid || exit 14
[ -e /run/pcscd/pcscd.comm ] && [ "$(cat /run/pcscd/pcscd.pid)" = 4242 ] || exit 15`
	cmd := inNamespace(t, directory, "true"+script)
	cmd.Env = append(cmd.Env, "RULES="+rulesFor(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStatus: --status names readers, cards and who uses them; the programs' own socket knows nothing of it.
func TestStatus(t *testing.T) {
	directory := newRunDirectory(t)
	socket := filepath.Join(directory, "comm")
	ctx, stop := context.WithCancel(t.Context())
	ready := make(chan struct{})
	p := program("--socket", socket, "--readers", "fake: Reader")
	p.Ready = func() { close(ready) }
	code := make(chan int, 1)
	go func() { code <- p.Run(ctx) }()
	<-ready

	ask := func() (int, string) {
		p := program("--status", "--socket", socket)
		code := p.Run(t.Context())
		return code, p.Stdout.(*bytes.Buffer).String() + p.Stderr.(*bytes.Buffer).String()
	}
	self := fmt.Sprintf("pid %d (daemon.test) uid %d", os.Getpid(), os.Getuid())
	const card = "Fake Reader 00 00: card with the ATR 3B 80 80 01 01"
	c := awaitContext(t, socket)
	if code, text := ask(); code != 0 || text != card+"\nwithout a connection to a reader: "+self+"\n" {
		t.Errorf("code %d:\n%s", code, text)
	}
	names, err := c.ListReaders()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Connect(names[0], pcsc.ShareExclusive, pcsc.ProtocolAny); err != nil {
		t.Fatal(err)
	}
	if code, text := ask(); code != 0 || text != card+", T=1\n  exclusive    "+self+"\n" {
		t.Errorf("code %d:\n%s", code, text)
	}
	if info, err := os.Stat(socket + ".status"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket of the status: %v %v", info, err)
	}

	c.Release()
	stop()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d: %s", got, p.Stderr)
	}
	if code, text := ask(); code != 1 || !strings.Contains(text, "no daemon runs") {
		t.Errorf("without a daemon: code %d:\n%s", code, text)
	}
	if left, err := os.ReadDir(directory); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

// --auto-exit ends the daemon also when nobody ever comes.
func TestAutoExitWithoutAnyClient(t *testing.T) {
	p := program("--foreground", "--socket", filepath.Join(t.TempDir(), "comm"), "--auto-exit")
	p.AutoExit = 20 * time.Millisecond
	code := make(chan int, 1)
	go func() { code <- p.Run(context.Background()) }()
	select {
	case got := <-code:
		if got != 0 {
			t.Errorf("exit code %d: %s", got, p.Stderr)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no auto-exit")
	}
}

func TestReadOnlyMapping(t *testing.T) {
	for _, row := range []struct {
		line       string
		at, length uintptr
	}{
		{"00400000-00a00000 r-xp 00000000 fe:00 12 /usr/sbin/pcscd", 0x400000, 0x600000},
		{"00a00000-00a01000 rw-p 00000000 fe:00 12 /usr/sbin/pcscd", 0, 0},
		{"00400000-00a00000 r-xp 00000000 fe:00 12 /usr/lib/libc.so.6", 0, 0},
		{"7ffe-7fff r-xp 00000000 00:00 0", 0, 0},
		{"2-1 r-xp 00000000 fe:00 12 /usr/sbin/pcscd", 0, 0},
		{"x-y r-xp 00000000 fe:00 12 /usr/sbin/pcscd", 0, 0},
		{"", 0, 0},
	} {
		at, length, ok := readOnlyMapping(strings.Fields(row.line), "/usr/sbin/pcscd")
		if at != row.at || length != row.length || ok != (row.length > 0) {
			t.Errorf("%q: %X %X %v", row.line, at, length, ok)
		}
	}
}

func TestLogLines(t *testing.T) {
	var b bytes.Buffer
	log := newLog(&b, nil, slog.LevelInfo, true).With("client", "pid 1\nuid 0")
	log.Warn("two\nlines", "reader", "A B", "n", 3)
	log.Debug("not this")
	if want := "<4>two\\nlines client=\"pid 1\\nuid 0\" reader=\"A B\" n=3\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
}
