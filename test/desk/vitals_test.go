package desk

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pam_pkcs11/internal/slowtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long something may take on a busy machine before a test gives up on it.
const patience = 5 * time.Minute

// count is a number that the environment may replace: `make soak-login` does.
func count(t *testing.T, variable string, usual int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no number", variable, text)
	}
	return n
}

// vitals are what must not grow: of the daemon and of the logins, which are one process here.
type vitals struct {
	goroutines, descriptors int
	heap                    int64 // bytes that are in use
}

func take(t *testing.T) vitals {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC() // what had a finalizer goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return vitals{runtime.NumGoroutine(), len(open), int64(m.HeapAlloc)}
}

// settled takes them when nothing that has been done before is still coming to its end.
func settled(t *testing.T) vitals {
	t.Helper()
	last, same := take(t), 0
	for until := time.Now().Add(patience); same < 10 && time.Now().Before(until); {
		time.Sleep(20 * time.Millisecond)
		now := take(t)
		if now.goroutines == last.goroutines && now.descriptors == last.descriptors {
			same++
		} else {
			same = 0
		}
		last = now
	}
	return last
}

// heapGrowth is what the heap may grow by in any number of logins: pools, and what the runtime
// keeps.
const heapGrowth = 8 << 20

// notMoreThan waits until no more is used than before.
func (v vitals) notMoreThan(t *testing.T, before vitals) {
	t.Helper()
	if !slowtest.Poll(patience, 20*time.Millisecond, func() bool {
		if v.goroutines <= before.goroutines && v.descriptors <= before.descriptors &&
			v.heap <= before.heap+heapGrowth {
			return true
		}
		v = take(t)
		return false
	}) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		t.Fatalf("leaks: before %+v, after %+v\n%s", before, v, stacks)
	}
	t.Logf("before %+v, after %+v", before, v)
}

// need fails where a program is not there, and names its Debian package.
func need(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing: install the Debian package %s", program, debian)
	}
}
