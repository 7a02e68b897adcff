package packaging

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDefaultFile: what an administrator has written into the file that the distribution's daemon reads, options and
// variables, reaches ours. systemd takes the last value of a variable, and says so where one has none.
func TestDefaultFile(t *testing.T) {
	text, err := os.ReadFile("systemd/pcscd.service")
	if err != nil {
		t.Fatal(err)
	}
	unit := string(text)
	for _, file := range []string{"/etc/default/pcscd", "/etc/sysconfig/pcscd"} {
		if !strings.Contains(unit, "\nEnvironmentFile=-"+file+"\n") {
			t.Errorf("the unit does not read %s", file)
		}
	}
	if !regexp.MustCompile(`(?m)^ExecStart=.* \$PCSCD_ARGS$`).MatchString(unit) {
		t.Error("the unit does not pass $PCSCD_ARGS on, each word an argument")
	}
	empty, file := strings.Index(unit, "\nEnvironment=PCSCD_ARGS=\n"), strings.Index(unit, "\nEnvironmentFile=")
	if empty < 0 || file < empty {
		t.Error("PCSCD_ARGS has no value where no file gives it one")
	}
}
