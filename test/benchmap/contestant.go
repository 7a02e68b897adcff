package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	user    string // "" lets the card name the user
	before  func() // before each login; may be nil
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
	cmd := exec.CommandContext(ctx, c.bench.host, c.bench.scene.ServiceDir(), c.name, c.user, pin, "0")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LANG=C"}, c.bench.card.Variables()...)
	if c.before != nil {
		c.before()
	}
	before, err := children()
	if err != nil {
		return s, err
	}
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
	if len(answer) < 7 || answer[0] != "0" {
		return s, fmt.Errorf("%s: pam_authenticate answered %q: %s", c.name, answer, said.Bytes())
	}
	if s.memory, err = strconv.ParseInt(answer[6], 10, 64); err != nil {
		return s, err
	}
	worker, err := orphans(before)
	s.memory = max(s.memory, worker)
	return s, err
}

// orphans waits for the processes that the login left behind, which are those that were not there before, and
// returns the peak of their memory.
func orphans(before map[string]bool) (memory int64, err error) {
	for {
		var usage unix.Rusage
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, &usage)
		switch {
		case errors.Is(err, unix.ECHILD):
			return memory, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return memory, err
		case pid > 0:
			memory = max(memory, int64(usage.Maxrss))
		default:
			left, err := children()
			if err != nil || !slices.ContainsFunc(slices.Collect(maps.Keys(left)), func(pid string) bool { return !before[pid] }) {
				return memory, err
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// children are this program's, by number.
func children() (map[string]bool, error) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		return nil, errors.Join(errors.New("the kernel does not list children"), err)
	}
	all := map[string]bool{}
	for _, l := range lists {
		text, err := os.ReadFile(l)
		if err != nil {
			continue // the thread is gone
		}
		for _, pid := range strings.Fields(string(text)) {
			all[pid] = true
		}
	}
	return all, nil
}

// memory returns the peaks of all samples.
func (c *contestant) memory() []int64 {
	var all []int64
	for _, s := range c.samples {
		all = append(all, s.memory)
	}
	return all
}
