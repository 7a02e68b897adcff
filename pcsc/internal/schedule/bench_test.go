package schedule

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clientVariable makes the test program a client of BenchmarkEcho, of so many rounds.
const clientVariable = "SCHEDULE_BENCHMARK_ROUNDS"

// BenchmarkEcho is programs that send a command and wait for the answer, with a card that answers
// at once: what the two forms take for a round trip, and how long the unluckiest program waited.
// Each program is a process, as in life.
//
//	go test -run - -bench Echo -benchtime 20000x ./pcsc/internal/schedule
func BenchmarkEcho(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // as in the daemon
	for _, clients := range []int{1, 10, 100} {
		for _, name := range []string{"fast", "plain"} {
			b.Run(fmt.Sprint(name, "/clients=", clients), func(b *testing.B) {
				benchmarkEcho(b, forms[name], clients)
			})
		}
	}
}

func benchmarkEcho(b *testing.B, form func() (Scheduler, error), clients int) {
	s, err := form()
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var served sync.WaitGroup
	var programs []*exec.Cmd
	starts := make([]Conn, clients)
	for i := range clients {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		if starts[i], err = s.Open(pair[0]); err != nil {
			b.Fatal(err)
		}
		theirs := os.NewFile(uintptr(pair[1]), "client")
		program := exec.Command(os.Args[0])
		program.Env = append(os.Environ(), clientVariable+"="+strconv.Itoa(b.N/clients+1))
		program.ExtraFiles = []*os.File{theirs}
		program.Stderr = os.Stderr
		if err := program.Start(); err != nil {
			b.Fatal(err)
		}
		theirs.Close()
		programs = append(programs, program)
	}

	ready := make([]byte, 1)
	for _, c := range starts {
		if _, err := c.Read(ready, false); err != nil {
			b.Fatal(err)
		}
	}
	longest := make([]time.Duration, clients)
	b.ResetTimer()
	for i, c := range starts {
		if err := c.Write(ready); err != nil {
			b.Fatal(err)
		}
		served.Go(func() { longest[i] = echoTimed(c) })
	}
	served.Wait()
	b.StopTimer()

	var most time.Duration
	for i, program := range programs {
		if err := program.Wait(); err != nil {
			b.Error(err)
		}
		most = max(most, longest[i])
	}
	b.ReportMetric(float64(most.Microseconds())/1000, "ms-longest")
}

// echoTimed answers until the client goes, and returns the longest round trip that the client
// reports at its end.
func echoTimed(c Conn) (longest time.Duration) {
	defer c.Close()
	b := make([]byte, benchmarkSize)
	for {
		n, err := c.Read(b, false)
		if err != nil || n == 0 {
			return longest
		}
		if n == 8 { // the report
			for _, octet := range b[:8] {
				longest = longest<<8 | time.Duration(octet)
			}
			continue
		}
		if c.Write(b[:n]) != nil {
			return longest
		}
	}
}

// benchmarkSize is the length of a TRANSMIT with a command of five bytes.
const benchmarkSize = 45

// benchmarkClient is a client of BenchmarkEcho, at descriptor 3. It says that it is ready, waits for
// the beginning, and blocks in read(2) as libpcsclite does.
func benchmarkClient(rounds int) (status int) {
	b := make([]byte, benchmarkSize)
	var longest time.Duration
	ask := func(n int) bool {
		if _, err := unix.Write(3, b[:n]); err != nil {
			return false
		}
		for got := 0; got < n; {
			m, err := unix.Read(3, b[got:n])
			if err != nil && err != unix.EINTR || m == 0 && err == nil {
				return false
			}
			got += max(m, 0)
		}
		return true
	}
	if !ask(1) {
		return 1
	}
	for range rounds {
		begin := time.Now()
		if !ask(benchmarkSize) {
			return 1
		}
		longest = max(longest, time.Since(begin))
	}

	report := make([]byte, 8)
	for i := range report {
		report[i] = byte(longest >> (56 - 8*i))
	}
	unix.Write(3, report)
	return 0
}
