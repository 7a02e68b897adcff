package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sample is one login.
type sample struct {
	wall   time.Duration // from before fork to after wait
	memory int64         // peak of the largest process, in KiB
}

// contestant is one module with one configuration.
type contestant struct {
	bench   *bench
	name    string
	samples []sample
}

// service writes the configuration and the PAM service.
func (c *contestant) service(name, module string, lines []string) error {
	conf, err := c.bench.scene.Config(name, c.bench.card, lines, nil)
	if err != nil {
		return err
	}
	c.name = name
	return c.bench.scene.Service(name, "required "+module+" config_file="+conf)
}

// login runs one login in a process of its own; one that does not succeed is an error.
func (c *contestant) login() (s sample, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.bench.host, c.bench.scene.ServiceDir(), c.name, user, pin, "0")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LANG=C"}, c.bench.card.Variables()...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	began := time.Now()
	err = cmd.Run()
	s.wall = time.Since(began)
	if err != nil {
		return s, fmt.Errorf("%s: %w: %s", c.name, err, said.Bytes())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	answer := strings.Fields(lines[len(lines)-1])
	if len(answer) != 7 || answer[0] != "0" {
		return s, fmt.Errorf("%s: pam_authenticate answered %q: %s", c.name, answer, said.Bytes())
	}
	if s.memory, err = strconv.ParseInt(answer[6], 10, 64); err != nil {
		return s, err
	}
	worker, err := orphans()
	s.memory = max(s.memory, worker)
	return s, err
}

// orphans waits for the processes that the login left behind, and returns the peak of their memory.
func orphans() (memory int64, err error) {
	for {
		var usage unix.Rusage
		_, err := unix.Wait4(-1, nil, 0, &usage)
		switch {
		case errors.Is(err, unix.ECHILD):
			return memory, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return memory, err
		default:
			memory = max(memory, usage.Maxrss)
		}
	}
}

// memory returns the peaks of all samples.
func (c *contestant) memory() []int64 {
	var all []int64
	for _, s := range c.samples {
		all = append(all, s.memory)
	}
	return all
}
