package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// bench is the two daemons and what they are measured with.
type bench struct {
	dir     string
	client  string // scbench
	echo    string // c/echo.c
	sim     string // pcscd-sim
	rounds  int
	out     io.Writer
	ours    contestant
	stock   contestant
	stop    []func()
	missed  int
	instant string // the IFD handler
}

// contestant is a daemon.
type contestant struct {
	name, socket string
	pid          int
}

func newBench(build string, rounds int, out io.Writer) (b *bench, err error) {
	dir, err := os.MkdirTemp("", "pcsc-bench-")
	if err != nil {
		return nil, err
	}
	b = &bench{dir: dir, client: filepath.Join(dir, "scbench"), echo: filepath.Join(dir, "echo"),
		sim: filepath.Join(build, "pcscd-sim"), rounds: rounds, out: out}
	b.stop = append(b.stop, func() { os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.sim, err = filepath.Abs(b.sim); err != nil {
		return nil, err
	}
	if err := b.compile(); err != nil {
		return nil, err
	}
	if b.ours, err = b.startOurs("ours", "reader Instant\ncard size\n"); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "reader.conf")
	text := fmt.Sprintf("FRIENDLYNAME \"Instant\"\nDEVICENAME /dev/null\nLIBPATH %s\n", b.instant)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	stock, err := pcsctest.StartStock(dir, config, io.Discard)
	if err != nil {
		return nil, err
	}
	b.stop = append(b.stop, stock.Stop)
	b.stock = contestant{"Debian's", stock.Socket, stock.PID()}
	return b, nil
}

// compile builds the client, the IFD handler and the server that only echoes.
func (b *bench) compile() error {
	_, here, _, _ := runtime.Caller(0)
	sources := filepath.Join(filepath.Dir(here), "c")
	var err error
	if b.instant, err = pcsctest.BuildIFD(filepath.Join(sources, "ifd_instant.c"), b.dir); err != nil {
		return err
	}
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", "libpcsclite").Output()
	if err != nil {
		return errors.New("libpcsclite-dev is missing")
	}
	args := append([]string{"-O2", "-Wall", "-o", b.client, filepath.Join(sources, "scbench.c")}, strings.Fields(string(flags))...)
	if out, err := exec.Command("gcc", append(args, "-lpthread")...).CombinedOutput(); err != nil {
		return fmt.Errorf("gcc: %w\n%s", err, out)
	}
	args = []string{"-O2", "-Wall", "-o", b.echo, filepath.Join(sources, "echo.c"), "-lpthread"}
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("gcc: %w\n%s", err, out)
	}
	return nil
}

// startEcho starts the server of c/echo.c.
func (b *bench) startEcho() (contestant, error) {
	cmd := exec.Command(b.echo, filepath.Join(b.dir, "echo.comm"))
	cmd.Stderr = os.Stderr
	return b.start("echo", filepath.Join(b.dir, "echo.comm"), cmd)
}

// startOurs starts pcscd-sim with the readers of a description.
func (b *bench) startOurs(name, readers string) (contestant, error) {
	file, socket := filepath.Join(b.dir, name+".readers"), filepath.Join(b.dir, name)
	if err := os.WriteFile(file, []byte(readers), 0o600); err != nil {
		return contestant{}, err
	}
	cmd := exec.Command(b.sim, "--foreground", "--socket", socket, "--readers", "sim:"+file)
	cmd.Stderr = os.Stderr
	return b.start("ours", socket, cmd)
}

// start starts a daemon and waits until it answers on its socket.
func (b *bench) start(name, socket string, cmd *exec.Cmd) (contestant, error) {
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return contestant{}, err
	}
	b.stop = append(b.stop, func() {
		cmd.Process.Signal(unix.SIGTERM)
		cmd.Wait()
	})
	for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if c, err := pcsc.NewContext(pcsc.NewClient(socket)); err == nil {
			c.Release()
			return contestant{name, socket, cmd.Process.Pid}, nil
		}
	}
	return contestant{}, fmt.Errorf("%s: the daemon does not answer", name)
}

func (b *bench) close() {
	for _, stop := range slices.Backward(b.stop) {
		stop()
	}
	b.stop = nil
}

// pin puts all threads of a daemon on one core, or on all again.
func (c contestant) pin(cores string) error {
	out, err := exec.Command("taskset", "-a", "-p", "-c", cores, strconv.Itoa(c.pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, out)
	}
	return nil
}

// command is scbench against a daemon.
func (b *bench) command(c contestant, cores string, args ...string) *exec.Cmd {
	cmd := exec.Command("taskset", append([]string{"-c", cores, b.client}, args...)...)
	cmd.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+c.socket)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

// ask runs scbench and gives the numbers it prints.
func (b *bench) ask(c contestant, cores string, args ...string) ([]float64, error) {
	cmd := b.command(c, cores, args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("scbench %s with %s: %w: %s", strings.Join(args, " "), c.name, err, said.String())
	}
	return numbers(string(out))
}

func numbers(line string) ([]float64, error) {
	var all []float64
	for _, f := range strings.Fields(line) {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return nil, fmt.Errorf("scbench prints %q", line)
		}
		all = append(all, n)
	}
	return all, nil
}

// allCores is what taskset calls them.
func allCores() string { return fmt.Sprintf("0-%d", runtime.NumCPU()-1) }

// median of values; they are sorted in place.
func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// result prints one line: what, the two medians, the ratio and its goal.
func (b *bench) result(what string, ours, stock []float64, scale float64, unit string, ratio float64, goal float64, atMost bool) {
	word, good := "at least", ratio >= goal
	if atMost {
		word, good = "at most", ratio <= goal
	}
	b.print(good, "%-42s %9.1f %s, Debian's %9.1f: ratio %.2f (%s %.2f)", what, median(ours)/scale, unit, median(stock)/scale, ratio, word, goal)
}

func (b *bench) print(good bool, format string, args ...any) {
	mark := "ok    "
	if !good {
		mark = "MISSED"
		b.missed++
	}
	fmt.Fprintf(b.out, mark+" "+format+"\n", args...)
}

// lines reads a program's lines.
func lines(r io.Reader) *bufio.Scanner { return bufio.NewScanner(r) }
