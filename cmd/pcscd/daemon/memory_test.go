package daemon

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestUntouched: of the program's mappings only those are given back that hold nothing but the file. What the dynamic
// linker wrote to (RELRO) is read-only as well, and would be lost.
func TestUntouched(t *testing.T) {
	describe := func(head, anonymous, swap string) string {
		return head + "\nSize:                  4 kB\nPrivate_Dirty:         0 kB\nAnonymous:             " + anonymous +
			"\nAnonHugePages:         0 kB\nSwap:                  " + swap + "\nSwapPss:               0 kB\nVmFlags: rd ex mr mw me\n"
	}
	const file = "/usr/sbin/pcscd"
	smaps := describe("00400000-00402000 r--p 00000000 00:15 7 /usr/sbin/pcscd", "0 kB", "0 kB") +
		describe("00402000-00654000 r-xp 00002000 00:15 7                          /usr/sbin/pcscd", "0 kB", "0 kB") +
		describe("008f2000-008f3000 r--p 004f2000 00:15 7 /usr/sbin/pcscd", "4 kB", "0 kB") + // RELRO
		describe("008f3000-008f4000 r--p 004f3000 00:15 7 /usr/sbin/pcscd", "0 kB", "4 kB") + // the same, swapped out
		describe("008f4000-00933000 rw-p 004f4000 00:15 7 /usr/sbin/pcscd", "0 kB", "0 kB") +
		describe("7f20c0edc000-7f20c0eeb000 r-xp 00005000 00:15 9 /lib/x86_64-linux-gnu/libusb-1.0.so.0", "0 kB", "0 kB") +
		"00a00000-00a01000 r--p 00000000 00:15 7 /usr/sbin/pcscd\nSwap:                  0 kB\n" + // does not say
		describe("nonsense r--p 0 0 0 /usr/sbin/pcscd", "0 kB", "0 kB")
	want := []mapping{{0x400000, 0x2000}, {0x402000, 0x252000}}
	if got := untouched(strings.NewReader(smaps), file); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(untouched(f, self)) == 0 {
		t.Error("no mapping of this program is given back")
	}
}
