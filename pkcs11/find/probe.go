package find

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"pam_pkcs11/pkcs11"
	"pam_pkcs11/token"
)

// Outcome is how the loading of a library ended.
type Outcome string

const (
	Loaded  Outcome = "loaded"
	Failed  Outcome = "failed"  // it cannot be loaded, or says so itself
	Crashed Outcome = "crashed" // it ended its process
	Hung    Outcome = "hung"    // it did not answer in its time
)

// Probed is what a library says of itself. Its JSON is an interface.
type Probed struct {
	Library
	Outcome      Outcome `json:"outcome"`
	Problem      string  `json:"problem,omitempty"` // in English; "" for Loaded
	Manufacturer string  `json:"manufacturer,omitempty"`
	Description  string  `json:"description,omitempty"`
	Version      string  `json:"version,omitempty"` // of the library
	Slots        int     `json:"slots"`
	Tokens       []Token `json:"tokens,omitempty"`
}

// Token is a card that the library can use.
type Token struct {
	Slot         string `json:"slot"` // description
	Label        string `json:"label"`
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`
	Serial       string `json:"serial,omitempty"`
	Initialized  bool   `json:"initialized"`
}

// Child starts the process in which a library is loaded: a program that calls Answer.
type Child struct {
	Command     []string      // program and arguments, to which the path of the library is added
	Environment []string      // the whole environment of the child
	Timeout     time.Duration // of one library; 0 is 10 s
}

const (
	defaultTimeout = 10 * time.Second
	maxAnswer      = 256 << 10 // octets
	maxTokens      = 64
	probesAtOnce   = 4
)

// Probe loads each library that was not left out, in a child of its own, and asks what it is and which
// tokens it sees. Nobody is logged in, and no PIN is sent. The answers are in the order of the list; those
// left out are not among them. What ctx ends is Hung.
func (c Child) Probe(ctx context.Context, list []Library) []Probed {
	var asked []Library
	for _, l := range list {
		if l.Usable() {
			asked = append(asked, l)
		}
	}
	answers := make([]Probed, len(asked))
	turns := make(chan struct{}, probesAtOnce)
	var all sync.WaitGroup
	for i, l := range asked {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			answers[i] = c.probe(ctx, l)
		})
	}
	all.Wait()
	return answers
}

// probe asks one library.
func (c Child) probe(ctx context.Context, l Library) Probed {
	p := Probed{Library: l, Outcome: Failed}
	if len(c.Command) == 0 {
		p.Problem = "there is no program to load it"
		return p
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	out, said, err := c.run(ctx, l.Path)
	switch {
	case ctx.Err() != nil:
		p.Outcome, p.Problem = Hung, fmt.Sprintf("it did not answer within %v", timeout)
	case err != nil:
		p.Outcome, p.Problem = Crashed, how(err, said)
	default:
		p.take(out)
	}
	return p
}

// run starts a child of its own process group, which ends with it: a library may have started others.
func (c Child) run(ctx context.Context, path string) (out, said []byte, err error) {
	var answer, complaint limited
	cmd := exec.CommandContext(ctx, c.Command[0], append(c.Command[1:len(c.Command):len(c.Command)], path)...)
	cmd.Env = append([]string{}, c.Environment...)
	cmd.Stdout, cmd.Stderr = &answer, &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for who holds the pipe
	err = cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // the child itself has ended well
	}
	return answer.Bytes(), complaint.Bytes(), err
}

// limited keeps the beginning of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxAnswer - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// crashSignal is what the Go runtime of the child says of a signal that C code got, and which it ends with status 2.
var crashSignal = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\bSIG[A-Z]{2,8}\b`) })

// how says how a child ended.
func how(err error, said []byte) string {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return "it could not be asked: " + err.Error()
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Sprintf("it crashed (%v)", status.Signal())
	}
	if signal := crashSignal().Find(said); signal != nil && exit.ExitCode() == 2 {
		return fmt.Sprintf("it crashed (%s)", signal)
	}
	return fmt.Sprintf("it ended its process (status %d)", exit.ExitCode())
}

// marker stands in front of the answer: a library may write to standard output, too.
const marker = "\npam-pkcs11-library "

// answer is what the child writes.
type answer struct {
	Problem      string  `json:"problem"`
	Manufacturer string  `json:"manufacturer"`
	Description  string  `json:"description"`
	Version      string  `json:"version"`
	Slots        int     `json:"slots"`
	Tokens       []Token `json:"tokens"`
}

// take reads what the child has written. A library shares its process: what it makes it write is text of
// strangers.
func (p *Probed) take(out []byte) {
	at := bytes.LastIndex(out, []byte(marker))
	var a answer
	if at < 0 || json.Unmarshal(out[at+len(marker):], &a) != nil {
		p.Outcome, p.Problem = Crashed, "it ended its process without an answer"
		return
	}
	if a.Problem != "" {
		p.Problem = token.Printable(a.Problem)
		return
	}

	p.Outcome = Loaded
	p.Manufacturer, p.Description = token.Printable(a.Manufacturer), token.Printable(a.Description)
	p.Version, p.Slots = token.Printable(a.Version), max(a.Slots, 0)
	for _, t := range a.Tokens[:min(len(a.Tokens), maxTokens)] {
		t.Slot, t.Label, t.Serial = token.Printable(t.Slot), token.Printable(t.Label), token.Printable(t.Serial)
		t.Manufacturer, t.Model = token.Printable(t.Manufacturer), token.Printable(t.Model)
		p.Tokens = append(p.Tokens, t)
	}
}

// Answer is the work of the child: it loads the library and writes what it says of itself. The error is
// that of the writing.
func Answer(ctx context.Context, path string, out io.Writer) error {
	a, err := ask(ctx, path)
	if err != nil {
		a = answer{Problem: strings.TrimPrefix(err.Error(), "PKCS#11 library "+path+": ")}
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s%s\n", marker, text)
	return err
}

func ask(ctx context.Context, path string) (a answer, err error) {
	m, err := pkcs11.Load(path, pkcs11.Options{})
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()

	info, err := m.Info()
	if err != nil {
		return a, err
	}
	a.Manufacturer, a.Description = info.Manufacturer, info.Description
	a.Version = fmt.Sprintf("%d.%d", info.Major, info.Minor)
	slots, err := m.Slots()
	if err != nil {
		return a, err
	}
	a.Slots = len(slots)
	for _, s := range slots {
		if ctx.Err() != nil || len(a.Tokens) == maxTokens {
			break
		}
		if t := s.Token; t != nil && s.Describe() == nil {
			a.Tokens = append(a.Tokens, Token{
				Slot:         s.Description,
				Label:        t.Label,
				Manufacturer: t.Manufacturer,
				Model:        t.Model,
				Serial:       t.Serial,
				Initialized:  t.Flags.Initialized(),
			})
		}
	}
	return a, nil
}

// ThisProgram is the child of a program that calls Answer when it is started again with the words.
func ThisProgram(words ...string) (Child, error) {
	self, err := os.Executable()
	if err != nil {
		return Child{}, err
	}
	return Child{
		Command:     append([]string{self}, words...),
		Environment: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "LC_ALL=C"},
	}, nil
}
