package usb

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pam_pkcs11/pcsc"
)

// difference is one between what libccid, under Debian's pcscd, says to a reader and what we say, in the same situation.
// doc/original.md explains each: about is how its row there begins.
type difference struct {
	about string
	// only is the model it is about; "" is any.
	only string
	// theirs and ours take out of a dialogue what is different; nil: nothing.
	theirs, ours func(lines []string) []string
}

// differences are all there are: what is left of the dialogues after them must be the same to the byte.
func differences() []difference {
	return []difference{
		{about: "Presence was asked for", theirs: withoutPolls, ours: withoutPolls},
		{about: "A card was switched off twice", theirs: once("> PowerOff", "< SlotStatus")},
		{about: "Every Gemalto reader was asked for its features", theirs: without("> Escape slot 0, 00 00 00: 6A", "< "), ours: without("> Escape slot 0, 00 00 00: 6A", "< ")},
		{about: "Character level, T=1", only: "character T=1", theirs: withoutBlocks, ours: withoutBlocks},
		{about: "Character level, T=0", only: "character T=0", theirs: withoutBlocks, ours: withoutBlocks},
		{about: "ICCD: a card was switched off, on and off", only: "ICCD-B", theirs: withoutStart, ours: withoutStart},
	}
}

func TestDialogues(t *testing.T) {
	explained, err := os.ReadFile("../../doc/original.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences() {
		if !strings.Contains(string(explained), "\n| "+d.about) {
			t.Errorf("doc/original.md does not explain %q", d.about)
		}
	}
	for _, m := range models() {
		t.Run(m.name, func(t *testing.T) {
			theirs, theyTold := dialogue(t, m, func(t *testing.T) *pcsc.Context { _, c := startDebian(t); return c })
			ours, weTold := dialogue(t, m, startOurs)
			if t.Failed() {
				return // one of them did not come to its end
			}
			if diff := cmp.Diff(theyTold, weTold); diff != "" {
				t.Errorf("what the application was told (-libccid +ours):\n%s", diff)
			}
			for _, p := range m.slots {
				if diff := unexplained(m.name, theirs[p], ours[p]); diff != "" {
					t.Errorf("interface %d, slot %d (-libccid +ours):\n%s", p.number, p.slot, diff)
				}
			}
		})
	}
}

// unexplained is what differs between two dialogues with a model and is none of the differences, "" for nothing.
func unexplained(name string, theirs, ours []string) string {
	for _, d := range differences() {
		if d.only != "" && d.only != name {
			continue
		}
		if d.theirs != nil {
			theirs = d.theirs(theirs)
		}
		if d.ours != nil {
			ours = d.ours(ours)
		}
	}
	if len(ours) == 0 {
		return "nothing was said"
	}
	return cmp.Diff(withoutRest(theirs), withoutRest(ours))
}

// withoutRest leaves out that a card was switched off because the application, on a busy machine, came to it later than
// the daemon waits.
func withoutRest(lines []string) []string {
	for len(lines) > 4 && strings.HasPrefix(lines[0], "> PowerOn") && strings.HasPrefix(lines[1], "< DataBlock") &&
		strings.HasPrefix(lines[2], "> PowerOff") && strings.HasPrefix(lines[3], "< SlotStatus") && lines[4] == lines[0] {
		lines = lines[4:]
	}
	return lines
}

// dialogue plays with a model and gives what was said about each place: from when the card came in, and for the first
// place from the start. told is what the application learnt of PIN pads.
func dialogue(t *testing.T, m model, start func(t *testing.T) *pcsc.Context) (said map[place][]string, told []string) {
	said = make(map[place][]string)
	t.Run("", func(t *testing.T) {
		b := newBench(t, m)
		b.play(start(t), func(p place) { said[p] = b.said.take(p) })
		told = b.told
	})
	return said, told
}

// withoutPolls leaves out the questions whether a card is there, and the notices: when they come is a matter of time.
func withoutPolls(lines []string) []string {
	// SlotStatus is the answer to PowerOff as well.
	var kept []string
	asked := false
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "> GetSlotStatus"):
			asked = true
		case asked && strings.HasPrefix(line, "< SlotStatus"):
			asked = false
		case strings.HasPrefix(line, "!"), strings.HasPrefix(line, "control A1 81 "):
		default:
			kept = append(kept, line)
		}
	}
	return kept
}

// once leaves one of several exchanges that follow each other and begin the same.
func once(command, answer string) func([]string) []string {
	return func(lines []string) []string {
		var kept []string
		for i := 0; i < len(lines); i++ {
			if n := len(kept); n > 1 && i+1 < len(lines) && strings.HasPrefix(kept[n-2], command) && strings.HasPrefix(kept[n-1], answer) &&
				strings.HasPrefix(lines[i], command) && strings.HasPrefix(lines[i+1], answer) {
				i++
				continue
			}
			kept = append(kept, lines[i])
		}
		return kept
	}
}

// without leaves out an exchange.
func without(command, answer string) func([]string) []string {
	return func(lines []string) []string {
		i := slices.Index(lines, command)
		if i < 0 || i+1 >= len(lines) || !strings.HasPrefix(lines[i+1], answer) {
			return lines
		}
		return slices.Delete(slices.Clone(lines), i, i+2)
	}
}

// withoutBlocks leaves out what is exchanged with the card.
func withoutBlocks(lines []string) []string {
	block := false
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		if strings.HasPrefix(line, ">") {
			block = strings.HasPrefix(line, "> XfrBlock")
		}
		return block
	})
}

// withoutStart leaves out of an ICCD dialogue what comes before the first command of the application, and the switching
// off.
func withoutStart(lines []string) []string {
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "control 21 65 ") }); i >= 0 {
		lines = lines[i:]
	}
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, "control 21 63 ") })
}
