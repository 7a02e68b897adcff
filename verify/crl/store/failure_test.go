package store

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestFailurePausesAtMost(t *testing.T) {
	for count, want := range map[int]time.Duration{1: 2 * time.Minute, 2: 4 * time.Minute, 4: 16 * time.Minute, 5: longestPause, 1 << 40: longestPause} {
		if got := (&failure{Count: count}).pause(); got != want {
			t.Errorf("%d: %s, want %s", count, got, want)
		}
	}
}

func TestDefaultRoutes(t *testing.T) {
	const v4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" +
		"eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
	const none = "00000000000000000000000000000000"
	const gate = "fe800000000000000000000000000001"
	v6 := none + " 00 " + none + " 00 " + gate + " 00000400 00000002 00000009 00000003     eth0\n" +
		none + " 00 " + none + " 00 " + none + " ffffffff 00000001 00000000 00200200       lo\n" +
		"fe800000000000000000000000000000 40 " + none + " 00 " + none + " 00000100 00000001 00000000 00000001     eth0\n"
	want := "0102A8C0 eth0\n" + gate + " eth0"
	if got := defaultRoutes(v4, v6); got != want {
		t.Errorf("got %q", got)
	}
	counted := strings.ReplaceAll(v6, "00000009", "0000ffff")
	if got := defaultRoutes(v4, counted); got != want {
		t.Errorf("counters count: %q", got)
	}
	for _, odd := range []string{"", "\n", "eth0", "eth0 00000000", strings.Repeat("00000000 ", 7), "\x00\xff"} {
		if got := defaultRoutes(odd, odd); got != "" {
			t.Errorf("%q: %q", odd, got)
		}
	}
	if _, err := os.Stat("/proc/net/route"); err == nil && machineState() == "" {
		t.Error("nothing is known of this machine")
	}
}

func FuzzDefaultRoutes(f *testing.F) {
	f.Add("eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n", "00000000000000000000000000000000 00 x 00 g 1 2 3 4 eth0\n")
	f.Fuzz(func(t *testing.T, v4, v6 string) {
		for _, line := range strings.Split(defaultRoutes(v4, v6), "\n") {
			if n := len(strings.Fields(line)); n != 0 && n != 2 {
				t.Errorf("%q", line)
			}
		}
	})
}
