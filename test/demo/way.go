package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"pam_pkcs11/test/libpam"
	"pam_pkcs11/test/scene"
)

// way is what each joint between libpam and the card had to say in one login.
type way struct {
	reader *reader
	mapped []string      // files that were mapped into the worker while the user typed
	hidden bool          // only root sees which they are, and the demo is run by somebody else
	events []scene.Event // at the card
	log    string        // of the daemon, from this login
	end    libpam.End
}

// show prints a line for each joint.
func (w *way) show(out io.Writer, card counters) error {
	_, client, commands := clientOf(w.log)
	driver := planOf(w.reader.Log())
	if client == "" || driver == "" {
		return errors.New("the daemon's log does not tell of the login")
	}
	worker, err := w.worker()
	if err != nil {
		return err
	}
	lines := [][2]string{
		{"libpam", "pam_authenticate answered " + w.end.Code},
		{"module", "pam_pkcs11.so, module = builtin; all that is not C runs in its worker"},
		{"worker", worker},
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

// worker says what is in the worker.
func (w *way) worker() (string, error) {
	if w.hidden {
		return "a process of its own; only root sees what is in it: sudo make demo shows it", nil
	}
	if len(w.mapped) == 0 {
		return "", errors.New("nobody has looked at what is mapped into the worker")
	}
	if foreign := scene.Foreign(w.mapped); len(foreign) > 0 {
		return "", fmt.Errorf("foreign files are mapped into the worker: %q", foreign)
	}
	return "a process of its own, with nothing in it but its own library, " +
		"the C library with its name services, and the loader", nil
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

var apduLine = regexp.MustCompile(`(?m)^APDU client="pid ([0-9]+) \(([^)]*)\)`)

// clientOf is the program whose commands the daemon has logged, and how many they were.
func clientOf(log string) (pid int, program string, commands int) {
	all := apduLine.FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		return 0, "", 0
	}
	pid, _ = strconv.Atoi(all[0][1]) // digits
	return pid, all[0][2], len(all)
}

// lookAtWorker notes what is mapped into the worker, whose commands the daemon has logged. The worker keeps its memory,
// in which a PIN may be, from its user (PR_SET_DUMPABLE), so that only root can look.
func (w *way) lookAtWorker(log string) (err error) {
	pid, _, _ := clientOf(log)
	w.mapped, err = scene.MappedFiles(pid)
	if os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
		w.hidden = true
		return nil
	}
	return err
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

// objects are those of SP 800-73-4, part 1, table 3, that a login reads.
var objects = map[string]string{
	"7E":     "discovery",
	"5FC102": "CHUID",
	"5FC105": "certificate 9A",
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
		n := len(e.Bytes)
		switch {
		case n < 2:
		case e.Bytes[n-2] == 0x61: // how many bytes are left is the certificate's affair
			all = append(all, name+" 61xx")
		default:
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
	case command[1] == 0xCB && len(command) > 7 && len(command) >= 7+int(command[6]):
		return name + " (" + objects[fmt.Sprintf("%X", command[7:7+command[6]])] + ")"
	case command[1] == 0x20 && len(command) == 4:
		return "VERIFY (tries)"
	case command[0]&0x10 != 0:
		return name + " (part)"
	}
	return name
}
