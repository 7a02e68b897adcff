// Package daemon is the PC/SC daemon without its readers: cmd/pcscd adds real ones,
// cmd/pcscd-sim simulated ones.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	sddaemon "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/release"
	"pam_pkcs11/internal/safefile"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

// Readers is a kind of readers that --readers can name.
type Readers struct {
	// Name is the word before the colon, and Usage what follows it: "serial:DEV".
	Name, Usage string
	// Plug starts the driver. argument is what followed the colon.
	Plug func(
		ctx context.Context, m *resmgr.Manager, argument string, log *slog.Logger,
	) (<-chan error, error)
}

// Program is the daemon's process.
type Program struct {
	Name    string
	Args    []string
	Env     func(string) string
	Stdout  io.Writer
	Stderr  io.Writer
	Readers []Readers // what --readers may name
	Default string    // what is used without it
	// AutoExit replaces the 60 seconds of --auto-exit, for tests; 0 is 60 seconds.
	AutoExit time.Duration
	// Ready is called when clients can connect, for tests; nil is nothing.
	Ready func()
}

// Run does what the command line says and returns the exit code: 0 also after SIGTERM
// and after an auto-exit.
func (p *Program) Run(ctx context.Context) int {
	return cli.Exit(p.Stderr, p.Name, p.run(ctx))
}

// run is Run without the exit code.
func (p *Program) run(ctx context.Context) error {
	o, err := parseOptions(p.Args)
	if err == nil {
		err = o.check(p.kinds())
	}
	if err != nil {
		return &cli.Error{Code: cli.Usage, Err: err}
	}

	o.environment(p.Env)
	switch {
	case o.help:
		usage(p.Stdout, p.Name, p.kinds())
		return nil
	case o.version:
		return p.printVersion()
	case o.hotplug:
		return signalRescan()
	case o.status:
		return askStatus(o, p.Stdout)
	case !o.foreground && (o.socket == "" || o.bundled):
		return p.detach(o)
	}

	rules, err := readRules(o)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	return p.serve(ctx, o, rules)
}

func (p *Program) kinds() []string {
	var kinds []string
	for _, r := range p.Readers {
		kinds = append(kinds, r.Usage)
	}
	return kinds
}

// printVersion prints what scripts look for: the version, the compatible pcsc-lite, its features in
// the words of `pcscd --version` of pcsc-lite, and the limits.
func (p *Program) printVersion() error {
	_, err := fmt.Fprintf(p.Stdout, `%s version %s (pam_pkcs11)
pcsc-lite compatible: %s
Enabled features: Linux %s libsystemd serial usb ipcdir=%s filter polkit
Protocol: 4.3 to 4.6
MAX_READERNAME: %d
MAX_READERS: 16 (protocol 4.5 and older)
Readers: %s
`,
		p.Name, release.Version, release.Compatible,
		runtime.GOARCH, filepath.Dir(pcsc.DefaultSocket),
		pcsc.MaxReaderName, strings.Join(p.kinds(), ", "))
	return err
}

// readRules reads the configuration; only one named by --config must exist.
func readRules(o *options) (*server.Rules, error) {
	file := o.config
	if file == "" {
		switch {
		case o.bundled && os.Geteuid() == 0:
			// For root alone, also where the daemon becomes another user later.
			return &server.Rules{Allow: server.AllowNone}, nil
		case o.socket != "":
			// Private use: the socket is its owner's, and so is the daemon.
			owner := fmt.Sprint(os.Geteuid())
			return &server.Rules{Allow: server.AllowNone, Users: []string{owner}}, nil
		}
		file = DefaultConfig
	}

	// Who may write this file decides who may use the readers.
	data, _, err := safefile.ReadFile(file, safefile.Configuration())
	if errors.Is(err, os.ErrNotExist) && o.config == "" {
		return &server.Rules{Allow: server.AllowLocal}, nil
	}
	if err != nil {
		return nil, err
	}
	return server.ParseRules(file, data)
}

// serve runs the daemon until ctx ends, a signal comes, or no client has been there for a while.
func (p *Program) serve(ctx context.Context, o *options, rules *server.Rules) error {
	log := p.logger(o)
	runtime.GOMAXPROCS(max(processors, runtime.NumCPU()))

	sockets, err := p.openSockets(o, log)
	// Before the check: what was made before an error has to be undone.
	defer sockets.close()
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := newManager(o, rules, log)
	defer m.Close()
	if err := p.plug(ctx, o, m, log); err != nil {
		// Close waits for the drivers that have been started.
		cancel()
		return err
	}
	m.Ready()

	s := p.newServer(o, rules, m, log)
	defer p.signals(ctx, cancel, m)()
	defer sockets.status.serve(s)()

	p.announce(o, log)
	err = s.Serve(ctx, sockets.clients.fd)

	sockets.clients.stop()
	sddaemon.SdNotify(false, sddaemon.SdNotifyStopping)
	// The drivers end before Close, which waits for them.
	cancel()
	if errors.Is(err, server.ErrIdle) {
		log.Info("no client for a while: ending")
		return nil
	}
	return err
}

// sockets are the sockets of the daemon, and what has to be undone for each.
type sockets struct {
	clients *listener
	status  *statusListener
	undo    []func()
}

// close undoes what was made, the last first.
func (s *sockets) close() {
	for _, undo := range slices.Backward(s.undo) {
		undo()
	}
}

// openSockets makes the sockets. The daemon of logins then gives up the rights that only that
// needed. The result is to be closed after an error too.
func (p *Program) openSockets(o *options, log *slog.Logger) (*sockets, error) {
	s := &sockets{}
	if o.bundled {
		release, err := prepareBundled(o)
		if err != nil {
			return s, err
		}
		s.undo = append(s.undo, release)
	}

	var err error
	s.clients, err = listen(o)
	if err != nil {
		return s, err
	}
	s.undo = append(s.undo, s.clients.close)

	s.status = listenStatus(statusSocket(o), log)
	s.undo = append(s.undo, s.status.close)

	if o.bundled {
		return s, becomeReadersUser(log)
	}
	// For private use: the files of the machine are those of its own daemon.
	if o.socket != "" {
		return s, nil
	}

	remove, err := writePID(s.clients)
	if err != nil {
		return s, err
	}
	s.undo = append(s.undo, remove)

	logForeign("/", p.Env, log)
	return s, nil
}

// newManager makes the resource manager with the options of the command line
// and of the configuration.
func newManager(o *options, rules *server.Rules, log *slog.Logger) *resmgr.Manager {
	o.names.Ignore = append(o.names.Ignore, rules.Ignore...)
	return resmgr.New(resmgr.Options{
		ReaderStates:     rules.ReaderStates,
		HandlesPerClient: o.perThread,
		HandlesPerReader: o.perReader,
		HandlesPerUser:   rules.PerUser,
		TransactionLimit: rules.TransactionLimit,
		Names:            o.names,
		Logger:           log,
	})
}

// newServer makes the server with the options of the command line and of the configuration.
func (p *Program) newServer(
	o *options, rules *server.Rules, m *resmgr.Manager, log *slog.Logger,
) *server.Server {
	if o.noPolkit {
		rules.Polkit = false
	}
	s := &server.Server{
		Manager:        m,
		Authorizer:     &server.Policy{Rules: *rules},
		MaxClients:     o.maxThread,
		ClientsPerUser: rules.PerUser,
		TraceAPDUs:     o.apdu,
		Logger:         log,
	}
	if o.autoExit {
		s.AutoExit = autoExitTime
		if p.AutoExit > 0 {
			s.AutoExit = p.AutoExit
		}
	}
	return s
}

// processors is the least number of processors (GOMAXPROCS) for the runtime. A client's goroutine
// that waits in a blocking read holds one for a moment; where there are too few, another client's
// request waits until the runtime's monitor takes one back, which it does after up to 10 ms.
const processors = 8

// announce reports that clients can connect to systemd and to the process that has
// started this one. From then on a daemon of logins does not write to that one's standard
// error: its log is syslog's.
func (p *Program) announce(o *options, log *slog.Logger) {
	log.Info("ready")
	sddaemon.SdNotify(false, sddaemon.SdNotifyReady)
	if p.Env(readyVariable) != "" {
		if o.bundled {
			// Standard input is /dev/null, see detach.
			unix.Dup3(unix.Stdin, unix.Stderr, 0)
		}
		ready := os.NewFile(readyFD, "ready")
		ready.Write([]byte{1})
		ready.Close()
	}

	if p.Ready != nil {
		p.Ready()
	}
	// Last: what the start still has to do would bring the pages back.
	giveBackMemory()
}

// plug starts the drivers that --readers names.
func (p *Program) plug(ctx context.Context, o *options, m *resmgr.Manager, log *slog.Logger) error {
	wanted := o.readers
	if len(wanted) == 0 {
		wanted = []string{p.Default}
	}

	for _, w := range wanted {
		kind, argument, _ := strings.Cut(w, ":")
		for _, r := range p.Readers {
			if r.Name != kind {
				continue
			}
			ended, err := r.Plug(ctx, m, argument, log)
			if err != nil {
				return fmt.Errorf("readers %s: %w", w, err)
			}

			// A driver that gives up takes its readers with it; the others go on.
			go func() {
				if err := <-ended; ctx.Err() == nil {
					log.Error("a driver has given up", "readers", w, "err", err)
				}
			}()
		}
	}
	return nil
}

// signals serves SIGTERM and SIGINT (a clean end), SIGUSR1 (look for readers); SIGHUP and
// SIGPIPE have no effect.
func (p *Program) signals(ctx context.Context, end func(), m *resmgr.Manager) (stop func()) {
	// The terminal or the client that goes away must not end the service.
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)

	c := make(chan os.Signal, 4)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGUSR1)

	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-c:
				if s == unix.SIGUSR1 {
					m.Rescan()
					continue
				}
				end()
			case <-done:
				return
			}
		}
	}()

	return func() {
		signal.Stop(c)
		close(done)
	}
}

// logger logs to standard error in the foreground and under systemd, else to syslog.
func (p *Program) logger(o *options) *slog.Logger {
	if p.Env(readyVariable) != "" {
		if w, err := syslog.New(syslog.LOG_AUTH|syslog.LOG_INFO, p.Name); err == nil {
			return newLog(nil, w, o.level, false)
		}
	}
	return newLog(p.Stderr, nil, o.level, p.Env("JOURNAL_STREAM") != "")
}

// A daemon in the background is this program started anew in a session of its own; it writes to the
// pipe at readyFD when clients can connect.
const (
	readyVariable = "PCSCD_READY_FD"
	readyFD       = 3
	readyTime     = 30 * time.Second
)

// detach starts the daemon in the background, and waits until it is ready.
func (p *Program) detach(o *options) error {
	environment := os.Environ()
	if o.bundled {
		environment = bundledEnvironment
		closeInherited()
		if err := fixLimits(); err != nil {
			return fmt.Errorf("limits of the daemon: %w", err)
		}
	}

	self, err := os.Executable()
	if err != nil {
		return err
	}

	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()

	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()

	arguments := append([]string{filepath.Base(self), "--foreground"}, p.Args...)
	child, err := os.StartProcess(self, arguments, &os.ProcAttr{
		Dir:   "/",
		Env:   append(slices.Clip(environment), readyVariable+"=1"),
		Files: []*os.File{null, null, os.Stderr, w}, // w is readyFD
		Sys:   &unix.SysProcAttr{Setsid: true},
	})
	// The child's copy is the only one now: Read ends when the child does.
	w.Close()
	if err != nil {
		return err
	}
	return awaitChild(child, r)
}

// awaitChild waits until the child reports that it is ready, or ends.
func awaitChild(child *os.Process, ready *os.File) error {
	ended := make(chan error, 1)
	go func() {
		state, err := child.Wait()
		if err == nil && !state.Success() {
			err = errors.New("the daemon ended at once")
		}
		ended <- err
	}()

	reported := make(chan bool, 1)
	go func() {
		n, _ := ready.Read(make([]byte, 1))
		reported <- n == 1
	}()

	select {
	case ready := <-reported:
		if ready {
			return nil
		}
	case <-time.After(readyTime):
		return errors.New("the daemon is not ready")
	}
	// The pipe was closed without a byte: the child has ended, or is about to.
	return <-ended
}
