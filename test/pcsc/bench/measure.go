package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// alternate runs one measurement on several daemons in alternation, and gives the answers of each in its rounds.
func (b *bench) alternate(cores string, args []string, daemons ...contestant) ([][][]float64, error) {
	answers := make([][][]float64, len(daemons))
	for i := range b.rounds {
		for n := range daemons {
			if i%2 == 1 {
				n = len(daemons) - 1 - n
			}
			a, err := b.ask(daemons[n], cores, args...)
			if err != nil {
				return nil, err
			}
			answers[n] = append(answers[n], a)
		}
	}
	return answers, nil
}

// both is alternate for our daemon and Debian's.
func (b *bench) both(cores string, args []string) (ours, stock [][]float64, err error) {
	answers, err := b.alternate(cores, args, b.ours, b.stock)
	if err != nil {
		return nil, nil, err
	}
	return answers[0], answers[1], nil
}

// column is one number of every answer, and ratio the median of its quotients.
func column(answers [][]float64, i int) []float64 {
	var all []float64
	for _, a := range answers {
		all = append(all, a[i])
	}
	return all
}

func ratio(ours, stock [][]float64, i int) float64 {
	var all []float64
	for n := range ours {
		all = append(all, ours[n][i]/stock[n][i])
	}
	return median(all)
}

// apdus: one client, on one core with the daemon.
func (b *bench) apdus() error {
	for _, c := range []contestant{b.ours, b.stock} {
		if err := c.pin("0"); err != nil {
			return err
		}
		defer c.pin(allCores())
	}
	for _, m := range []struct {
		what                  string
		send, receive, rounds int
		goal                  float64
	}{
		{"5 bytes out, 2 in", 5, 2, 20000, 0.80},
		{"5 bytes out, 258 in", 5, 258, 20000, 0.80},
		{"261 bytes out, 258 in", 261, 258, 20000, 0.80},
		{"64 KiB out, 2 in", 65540, 2, 5000, 0.85},
		{"5 bytes out, 64 KiB in", 5, 65538, 5000, 0.85},
		{"64 KiB out, 64 KiB in", 65540, 65538, 5000, 0.85},
	} {
		ours, stock, err := b.both("0", []string{"apdu", strconv.Itoa(m.send), strconv.Itoa(m.receive), strconv.Itoa(m.rounds)})
		if err != nil {
			return err
		}
		b.result("one core, "+m.what+", p50", column(ours, 0), column(stock, 0), 1000, "us", ratio(ours, stock, 0), m.goal, true)
	}
	return nil
}

// loads: many clients at once, on all cores. The goals were set where a system call costs a third of what it does on
// some virtual machines. What stock clients reach with a server that only echoes is printed beside them, and at the end
// what they would reach if that server and they never woke each other from core to core: about as far as a daemon can get
// on this machine.
func (b *bench) loads() error {
	echo, err := b.startEcho()
	if err != nil {
		return err
	}
	rates := map[int]float64{} // Debian's
	for _, m := range []struct {
		clients int
		goal    float64
		p99     float64
	}{{2, 1.0, 0}, {10, 1.8, 0}, {100, 2.0, 0.5}} {
		args := []string{"load", strconv.Itoa(m.clients), "5", "2", "1"}
		answers, err := b.alternate(allCores(), args, b.ours, b.stock, echo)
		if err != nil {
			return err
		}
		ours, stock := answers[0], answers[1]
		what := fmt.Sprintf("%d clients", m.clients)
		b.result(what+", commands a second", column(ours, 0), column(stock, 0), 1000, "k", ratio(ours, stock, 0), m.goal, false)
		if m.p99 > 0 {
			b.result(what+", p99", column(ours, 2), column(stock, 2), 1e6, "ms", ratio(ours, stock, 2), m.p99, true)
		}
		bare := answers[2]
		fmt.Fprintf(b.out, "       %-42s %9.1f k, p99 %.1f ms: ours does %.2f of it, Debian's %.2f\n", what+", a bare echo in C",
			median(column(bare, 0))/1000, median(column(bare, 2))/1e6, ratio(ours, bare, 0), ratio(stock, bare, 0))
		rates[m.clients] = median(column(stock, 0))
	}
	most, err := b.ceiling(echo, []string{"load", "10", "5", "2", "1"})
	if err == nil {
		fmt.Fprintf(b.out, "       %-42s %9.1f k: %.2f of Debian's with 10 clients, %.2f with 100\n", "the echo with 10 clients on each core alone",
			most/1000, most/rates[10], most/rates[100])
	}
	return err
}

// ceiling is the rate of a server that has one core with all its clients, times the cores.
func (b *bench) ceiling(c contestant, args []string) (float64, error) {
	if err := c.pin("0"); err != nil {
		return 0, err
	}
	defer c.pin(allCores())
	answers, err := b.alternate("0", args, c)
	if err != nil {
		return 0, err
	}
	return median(column(answers[0], 0)) * float64(runtime.NumCPU()), nil
}

// handovers: who waits for a transaction gets it when it is free, in turn.
func (b *bench) handovers() error {
	ours, stock, err := b.both(allCores(), []string{"transactions", "10", "2"})
	if err != nil {
		return err
	}
	p50 := median(column(ours, 0)) / 1e6
	b.print(p50 <= 0.2, "%-42s %9.3f ms, Debian's %9.3f (at most 0.2)", "transaction handover, 10 clients, p50", p50, median(column(stock, 0))/1e6)
	var spread []float64
	for _, a := range ours {
		spread = append(spread, a[4]/max(a[3], 1))
	}
	last := stock[len(stock)-1]
	b.print(median(spread) <= 1.5, "%-42s %9.2f, Debian's %.0f to %.0f grants (at most 1.5)", "most grants of a client / least", median(spread), last[3], last[4])
	return nil
}

// events: from a card's movement to the client that SCardGetStatusChange woke, for a reader that notifies.
func (b *bench) events() error {
	const count = 200
	moves := filepath.Join(b.dir, "moves")
	c, err := b.startOurs("events", "reader Moving\ncard echo\nevery 15ms\nmoves "+moves+"\n")
	if err != nil {
		return err
	}
	cmd := b.command(c, allCores(), "wait", strconv.Itoa(count))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var woken []float64
	for s := lines(out); s.Scan(); {
		if n, err := strconv.ParseFloat(s.Text(), 64); err == nil {
			woken = append(woken, n)
		}
	}
	if err := cmd.Wait(); err != nil {
		return err
	}
	text, err := os.ReadFile(moves)
	if err != nil {
		return err
	}
	moved, err := numbers(string(text))
	if err != nil {
		return err
	}
	var latency []float64
	for _, w := range woken { // the movement that it was woken for is the last before
		before := 0.0
		for _, m := range moved {
			if m <= w {
				before = m
			}
		}
		latency = append(latency, w-before)
	}
	if len(latency) < count {
		return fmt.Errorf("only %d movements were seen", len(latency))
	}
	p50 := median(latency) / 1e6
	p99 := latency[len(latency)*99/100] / 1e6
	b.print(p50 <= 0.3, "%-42s %9.3f ms (at most 0.3; Debian's, on polled readers: 246 to 325)", "card movement to client, p50", p50)
	b.print(p99 <= 2, "%-42s %9.3f ms (at most 2)", "card movement to client, p99", p99)
	return nil
}

// idle: eight readers that notify and four clients that wait: nobody wakes up.
func (b *bench) idle() error {
	c, err := b.startOurs("idle", strings.Repeat("reader Quiet\ncard echo\n", 8))
	if err != nil {
		return err
	}
	cmd := b.command(c, allCores(), "idle", "4")
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	time.Sleep(7 * time.Second) // until the cards are switched off
	before, err := switches(c.pid)
	if err != nil {
		return err
	}
	time.Sleep(10 * time.Second)
	after, err := switches(c.pid)
	if err != nil {
		return err
	}
	memory, err := status(fmt.Sprintf("/proc/%d/status", c.pid), "VmRSS:")
	if err != nil {
		return err
	}
	b.print(after == before, "%-42s %9d (0; Debian's, polled: 200)", "wake-ups in 10 s, 8 readers, 4 clients", after-before)
	b.print(memory <= 8<<10, "%-42s %9.1f MiB (at most 8)", "resident", float64(memory)/1024)
	return nil
}

// switches is how often the threads of a process went to sleep.
func switches(pid int) (sum int, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, t := range tasks {
		n, err := status(t, "voluntary_ctxt_switches:")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, err
}

// status reads a number of /proc/PID/status.
func status(file, name string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}
