package daemon

import (
	"fmt"
	"strings"
	"testing"
)

// FuzzPID: what is taken for a pid is one, and is the number at the beginning of the file.
func FuzzPID(f *testing.F) {
	for _, text := range []string{"123\n", "123\n\x00", "", "-1", "99999999999999999999"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pid, err := parsePID(data)
		if err == nil && (pid < 2 || !strings.Contains(string(data), fmt.Sprint(pid))) {
			t.Errorf("%q is %d", data, pid)
		}
	})
}

// FuzzReaderConf: what is taken for a library stands behind the word LIBPATH.
func FuzzReaderConf(f *testing.F) {
	f.Add("FRIENDLYNAME \"x\"\nLIBPATH /usr/lib/x.so\n")
	f.Add("# LIBPATH /x\nlibpath\t/y")
	f.Fuzz(func(t *testing.T, text string) {
		library := libraryIn(text)
		if library != "" && !strings.Contains(strings.ToLower(text), "libpath") {
			t.Errorf("%q in %q", library, text)
		}
	})
}
