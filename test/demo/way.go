package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"pam_pkcs11/test/libpam"
	"pam_pkcs11/test/scene"
)

// way is what each joint between libpam and the card had to say in one login.
type way struct {
	stage  *stage
	reader *reader
	mapped []string      // files that the worker has mapped while the user typed
	events []scene.Event // at the card
	log    string        // of the daemon, from this login
	end    libpam.End
}

// show prints a line for each joint.
func (w *way) show(out io.Writer, card counters) error {
	client, commands := clientOf(w.log)
	driver := planOf(w.reader.Log())
	if client == "" || driver == "" {
		return errors.New("the daemon's log does not tell of the login")
	}
	lines := [][2]string{
		{"libpam", "pam_authenticate answered " + w.end.Code},
		{"module", "pam_pkcs11.so, module = builtin; all that is not C runs in its worker"},
		{"worker", "a process of its own, in which are mapped: " + strings.Join(w.mapped, ", ")},
		{"piv", inWords(w.events)},
		{"pcscd", fmt.Sprintf("%s sent %d commands to %s 00 00", client, commands, readerName)},
		{"ccid", driver},
		{"card", fmt.Sprintf("saw %d PIN, has %d tries left", card.verifies, card.pin)},
	}
	fmt.Fprintln(out, "    the way, joint by joint:")
	for _, line := range lines {
		fmt.Fprintf(out, "      %-7s %s\n", line[0], wrap(line[1]))
	}
	return nil
}

// wrap breaks a long line.
func wrap(text string) string {
	const width, indent = 92, "\n              "
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteString(indent)
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// lookAtWorker notes what the worker has mapped, while it waits for the PIN.
func (w *way) lookAtWorker() error {
	launcher, err := filepath.Abs(filepath.Join(w.stage.build, "pam_pkcs11_worker"))
	if err != nil {
		return err
	}
	processes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return err
	}
	for _, exe := range processes {
		if target, err := os.Readlink(exe); err != nil || target != launcher {
			continue
		}
		maps, err := os.ReadFile(filepath.Join(filepath.Dir(exe), "maps"))
		if err != nil {
			return err
		}
		w.mapped = mappedFiles(string(maps))
		return nil
	}
	return errors.New("the worker is not there")
}

// mappedFiles are the names of the shared objects in a map, without their versions.
func mappedFiles(maps string) []string {
	var all []string
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.HasPrefix(fields[5], "/") || !strings.Contains(fields[5], ".so") {
			continue
		}
		if name := filepath.Base(fields[5]); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

var apduLine = regexp.MustCompile(`(?m)^APDU client="pid [0-9]+ \(([^)]*)\)`)

// clientOf is the program whose commands the daemon has logged, and how many they were.
func clientOf(log string) (program string, commands int) {
	all := apduLine.FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return "", 0
	}
	return all[0][1], len(all)
}

var planLine = regexp.MustCompile(`(?m)^reader .*plan="([^"]*)"`)

// planOf is what the driver has planned to do with the reader.
func planOf(log string) string {
	if m := planLine.FindStringSubmatch(log); m != nil {
		return m[1]
	}
	return ""
}

// names are those of the commands of SP 800-73-4, part 2.
var names = map[byte]string{
	0x20: "VERIFY",
	0x24: "CHANGE REFERENCE DATA",
	0x2C: "RESET RETRY COUNTER",
	0x87: "GENERAL AUTHENTICATE",
	0xA4: "SELECT",
	0xC0: "GET RESPONSE",
	0xCB: "GET DATA",
	0xF7: "GET METADATA",
	0xFD: "GET VERSION",
}

// inWords names the commands and the status words that came back.
func inWords(events []scene.Event) string {
	var all []string
	name := ""
	for _, e := range events {
		if !e.After {
			name = nameOf(e.Bytes)
			continue
		}
		if n := len(e.Bytes); n >= 2 {
			all = append(all, fmt.Sprintf("%s %X", name, e.Bytes[n-2:]))
		}
	}
	return strings.Join(all, ", ")
}

func nameOf(command []byte) string {
	if len(command) < 4 {
		return "?"
	}
	name := names[command[1]]
	switch {
	case name == "":
		return fmt.Sprintf("INS %02X", command[1])
	case command[1] == 0x20 && command[2] == 0xFF:
		return "VERIFY (lock)"
	case command[1] == 0x20 && len(command) == 4:
		return "VERIFY (tries)"
	case command[0]&0x10 != 0:
		return name + " (part)"
	}
	return name
}
