// Package slowtest is for tests that need a real clock, as they watch programs, servers and the
// kernel. It waits for what others do (Until, Poll) and keeps what they write (Buffer). It measures
// what the machine added to the time that was taken, so that a busy one fails no test of a deadline.
//
// Code that is Go alone is tested with testing/synctest instead, where time costs nothing.
package slowtest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Allowance starts a measurement. What it returns says how much longer than on a machine of its own
// the process may have taken since then: twice the time that its threads waited for a processor, as
// what it talks to waits as well. It is 0 where the kernel does not say (CONFIG_SCHED_INFO;
// Documentation/scheduler/sched-stats.rst).
func Allowance() func() time.Duration {
	start := waited()
	return func() time.Duration { return max(0, 2*(waited()-start)) }
}

// waited is how long the threads of this process have been runnable without running, all together.
func waited() time.Duration {
	var sum time.Duration
	files, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}

		// Nanoseconds run, nanoseconds waited, times that it ran.
		fields := strings.Fields(string(text))
		if len(fields) != 3 {
			continue
		}

		if ns, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			sum += time.Duration(ns)
		}
	}
	return sum
}
