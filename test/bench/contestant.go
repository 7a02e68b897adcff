package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"time"

	"pam_pkcs11/test/scene"
)

// sample is one login, timed.
type sample struct {
	wall                        time.Duration // from before fork to after wait
	start, prompt, verdict, end time.Duration // as the host program saw them
	prompted                    time.Duration // the time of the prompt by CLOCK_MONOTONIC
	faults, worker              int           // page faults of the host and of its worker; -1: not counted
	work                        time.Duration // processor time of both; -1: not counted
}

func wall(s sample) time.Duration    { return s.wall }
func verdict(s sample) time.Duration { return s.verdict }

// phases are the rows of the table.
var phases = []struct {
	name string
	of   func(sample) time.Duration
}{
	{"whole process", wall},
	{"pam_start", func(s sample) time.Duration { return s.start }},
	{"pam_authenticate to prompt", func(s sample) time.Duration { return s.prompt }},
	{"PIN to verdict", verdict},
	{"pam_end", func(s sample) time.Duration { return s.end }},
}

// contestant is one of the two modules with its service, and the logins it has done.
type contestant struct {
	bench   *bench
	card    *scene.Card
	name    string // of the PAM service
	samples []sample
}

// again returns the contestant without its samples.
func (c *contestant) again() *contestant {
	return &contestant{bench: c.bench, card: c.card, name: c.name}
}

// service writes the configuration and the PAM service of a contestant; both modules read the same keys.
func (c *contestant) service(name, module string, card *scene.Card) error {
	global := []string{"use_mappers = cn;", "mapper cn {\n    debug = false;\n    module = internal;\n    ignorecase = false;\n  }"}
	conf, err := c.bench.scene.Config(name, card, global, nil)
	if err != nil {
		return err
	}
	c.name = name
	return c.bench.scene.Service(name, "required "+module+" config_file="+conf)
}

// login runs one login in a process of its own; one that does not succeed is an error.
func (c *contestant) login(think time.Duration) error {
	s, err := c.run(think, nil)
	if err == nil {
		c.samples = append(c.samples, s)
	}
	return err
}

// run is one login; told, when not nil, is called at the first message to the user.
func (c *contestant) run(think time.Duration, told func() error) (s sample, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.bench.host, c.bench.scene.ServiceDir(), c.name, user, c.card.PIN, fmt.Sprint(think.Milliseconds()))
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LANG=C"}, c.card.Variables()...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return s, err
	}
	last, err := listen(out, told)
	err = errors.Join(err, cmd.Wait())
	s.wall = time.Since(began)
	if err != nil {
		return s, fmt.Errorf("%s: %w: %s", c.name, err, said.Bytes())
	}
	var code, peak int
	var own, other time.Duration
	if _, err := fmt.Sscan(last, &code, &s.start, &s.prompt, &s.verdict, &s.end, &s.prompted, &peak,
		&s.faults, &s.worker, &own, &other); err != nil {
		return s, fmt.Errorf("%s: %q: %w", c.name, last, err)
	}
	if s.work = own + other; own < 0 || other < 0 {
		s.work = -1
	}
	if code != 0 || s.verdict < 0 {
		return s, fmt.Errorf("%s: pam_authenticate answered %d: %s", c.name, code, said.Bytes())
	}
	return s, nil
}

// listen reads what the host program says, to its end, and returns the last line.
func listen(out io.Reader, told func() error) (last string, err error) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if last = lines.Text(); last == "told" && told != nil {
			err = errors.Join(err, told())
		}
	}
	return last, err
}

// of returns one phase of all samples.
func (c *contestant) of(phase func(sample) time.Duration) []time.Duration {
	var all []time.Duration
	for _, s := range c.samples {
		all = append(all, phase(s))
	}
	return all
}

var call = regexp.MustCompile(`(?m)^[0-9]+: (C_[A-Za-z]+)`)

// countCalls counts the calls in pkcs11-spy's output; how a library hands out its functions does not count.
func countCalls(text []byte) int {
	n := 0
	for _, m := range call.FindAllSubmatch(text, -1) {
		switch string(m[1]) {
		case "C_GetFunctionList", "C_GetInterface", "C_GetInterfaceList":
		default:
			n++
		}
	}
	return n
}
