package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// What scripts can do beside testscript's own commands: run a program at a terminal of 40 columns, and without any.

// narrowColumns is the width of the terminal of the command narrow.
const narrowColumns = 40

// runTime bounds a program of a script.
const runTime = 2 * time.Minute

// scriptCommands are those of all scripts.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// narrow runs a program whose standard input, output and error are a terminal of 40 columns, its controlling one. What
	// the terminal shows is the standard output of the command. A first argument <FILE is typed, a line for each question;
	// then input ends.
	"narrow": func(ts *testscript.TestScript, neg bool, args []string) {
		shown, err := atTerminal(ts, args)
		finish(ts, neg, args, shown, err)
	},

	// detached runs a program in a session of its own, without a terminal to open, and without standard input.
	"detached": func(ts *testscript.TestScript, neg bool, args []string) {
		cmd, stop := command(ts, args)
		defer stop()
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, ts.Stderr()
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		err := cmd.Run()
		finish(ts, neg, args, out.String(), err)
	},
}

// command is a program of a script, with the script's environment; stop ends it when it takes too long.
func command(ts *testscript.TestScript, args []string) (cmd *exec.Cmd, stop func()) {
	if len(args) == 0 {
		ts.Fatalf("which program?")
	}
	path, err := exec.LookPath(args[0])
	for _, dir := range strings.Split(ts.Getenv("PATH"), ":") {
		if found := dir + "/" + args[0]; isProgram(found) {
			path, err = found, nil
			break
		}
	}
	ts.Check(err)

	cmd = exec.Command(path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = scriptEnvironment(ts)
	timer := time.AfterFunc(runTime, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	return cmd, func() { timer.Stop() }
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// scriptEnvironment is the part of a script's environment that these programs look at.
func scriptEnvironment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "WORK", "TMPDIR", "LANG", "LC_ALL", "LC_MESSAGES", "LANGUAGE", "NO_COLOR", "COLUMNS"} {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return append(env, "TERM=xterm")
}

// finish is the end of a command of a script.
func finish(ts *testscript.TestScript, neg bool, args []string, shown string, err error) {
	_, _ = io.WriteString(ts.Stdout(), shown)
	var failed *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &failed):
		ts.Fatalf("%s: %v", args[0], err)
	case err != nil && !neg:
		ts.Fatalf("%s: %v\n%s", args[0], err, shown)
	case err == nil && neg:
		ts.Fatalf("%s: unexpected success\n%s", args[0], shown)
	}
}

// atTerminal runs a program at a terminal, and gives what that shows.
func atTerminal(ts *testscript.TestScript, args []string) (string, error) {
	var answers []string
	if file, found := strings.CutPrefix(args[0], "<"); found {
		answers, args = strings.SplitAfter(strings.TrimSuffix(ts.ReadFile(file), "\n")+"\n", "\n"), args[1:]
		answers = answers[:len(answers)-1]
	}
	master, slave, err := openTerminal(narrowColumns)
	ts.Check(err)
	defer master.Close()

	cmd, stop := command(ts, args)
	defer stop()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		slave.Close()
		return "", err
	}
	slave.Close()
	shown := make(chan string, 1)
	go func() { shown <- converse(master, answers) }()
	err = cmd.Wait()
	return strings.ReplaceAll(<-shown, "\r\n", "\n"), err
}

// endOfInput is what ends the input of a terminal (VEOF).
const endOfInput = "\x04"

// converse types an answer whenever a question is shown, and returns all that is shown until the last program closes the
// terminal. What is typed before a question would be shown.
func converse(master *os.File, answers []string) string {
	var all []byte
	if len(answers) == 0 {
		_, _ = io.WriteString(master, endOfInput)
	}
	for buffer := make([]byte, 4096); ; {
		n, err := master.Read(buffer)
		all = append(all, buffer[:n]...)
		if err != nil {
			return string(all) // EIO at the end
		}
		if len(answers) == 0 || !bytes.HasSuffix(all, []byte(": ")) && !bytes.HasSuffix(all, []byte("] ")) {
			continue
		}
		_, _ = io.WriteString(master, answers[0])
		if answers = answers[1:]; len(answers) == 0 {
			_, _ = io.WriteString(master, endOfInput)
		}
	}
}

// openTerminal makes a pseudo-terminal (pty(7)).
func openTerminal(columns uint16) (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err == nil {
		slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}
