// Command picture draws doc/login.svg, the way of a login, and doc/floors.svg, the packages. It is
// run by `make picture` in the top directory of the sources; a test compares the files with what is
// drawn.
package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
)

// pictures are all, by their files.
var pictures = map[string]func() []byte{
	"doc/login.svg":  draw,
	"doc/floors.svg": drawFloors,
}

//go:generate sh -c "cd ../.. && go run ./doc/picture"

func main() { os.Exit(run(os.Stderr)) }

func run(stderr io.Writer) int {
	for file, draw := range pictures {
		if err := os.WriteFile(file, draw(), 0o644); err != nil {
			fmt.Fprintln(stderr, "picture:", err)
			return 1
		}
	}
	return 0
}

// process is a frame: what is inside shares memory and rights.
type process struct {
	title, note string
	boxes       []box
	colour      string // of the frame
}

// box is a part of a process.
type box struct{ name, does string }

// way is that of a login, from left to right.
var way = []process{
	{
		title:  "host program",
		note:   "login, sudo, sshd, GDM, locker",
		colour: "#6b7280",
		boxes: []box{
			{"libpam", "of the distribution"},
			{"pam_pkcs11.so", "C alone: it relays"},
		},
	},
	{
		title:  "worker",
		note:   "one a login, with a deadline",
		colour: "#2563eb",
		boxes: []box{
			{"login", "the order, and the verdict"},
			{"verify", "chain, CRL, OCSP"},
			{"mapper", "whose certificate is it?"},
			{"piv", "the card's commands"},
		},
	},
	{
		title:  "pcscd",
		note:   "ours or Debian's",
		colour: "#7c3aed",
		boxes: []box{
			{"pcsc", "who may use which card"},
			{"ccid", "the driver"},
		},
	},
	{
		title:  "USB",
		note:   "",
		colour: "#059669",
		boxes: []box{
			{"reader", "CCID"},
			{"smart card", "holds the key"},
		},
	},
}

// Lengths in pixels.
const (
	boxWidth, boxHeight = 172, 46
	gap                 = 12
	frameGap            = 58
	titleHeight         = 50
	margin              = 16
)

// draw makes the picture.
func draw() []byte {
	most := 0
	for _, p := range way {
		most = max(most, len(p.boxes))
	}

	frameHeight := titleHeight + most*(boxHeight+gap) + gap
	frameWidth := boxWidth + 2*gap
	width := 2*margin + len(way)*frameWidth + (len(way)-1)*frameGap
	height := 2*margin + frameHeight

	var b bytes.Buffer
	begin(&b, width, height, spoken())

	for i, p := range way {
		x := margin + i*(frameWidth+frameGap)
		frame(&b, p, x, frameWidth, frameHeight)
		if i > 0 {
			arrow(&b, x-frameGap, x, margin+frameHeight/2, joints[i-1])
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// begin writes the head of a picture, and its ground.
func begin(b *bytes.Buffer, width, height int, spoken string) {
	fmt.Fprintf(b,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`+"\n",
		width, height, width, height, escape(spoken))
	b.WriteString(
		`<style>text{font-family:system-ui,sans-serif;fill:#111827}.t{font-size:16px;font-weight:600}.n{font-size:11.5px;fill:#4b5563}.b{font-size:14px;font-weight:600}.l{font-size:11px;fill:#4b5563}</style>` + "\n")
	fmt.Fprintf(b, `<rect width="%d" height="%d" rx="12" fill="#ffffff"/>`+"\n", width, height)
}

// joints are what joins two processes: what goes to the right, and what comes back.
var joints = [][2]string{
	{"prompts", "verdict"},
	{"APDUs", "answers"},
	{"CCID", "answers"},
}

// frame draws a process with its parts.
func frame(b *bytes.Buffer, p process, x, width, height int) {
	fmt.Fprintf(b,
		`<rect x="%d" y="%d" width="%d" height="%d" rx="10" fill="#f9fafb" stroke="%s" stroke-width="2"/>`+"\n",
		x, margin, width, height, p.colour)
	text(b, "t", x+width/2, margin+22, p.title)
	text(b, "n", x+width/2, margin+39, p.note)

	for i, part := range p.boxes {
		y := margin + titleHeight + i*(boxHeight+gap)
		fmt.Fprintf(b,
			`<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="#ffffff" stroke="%s"/>`+"\n",
			x+gap, y, boxWidth, boxHeight, p.colour)
		text(b, "b", x+width/2, y+20, part.name)
		text(b, "l", x+width/2, y+36, part.does)
	}
}

// arrow draws what joins two processes, both ways.
func arrow(b *bytes.Buffer, from, to, y int, joint [2]string) {
	for i, label := range joint {
		// The upper line goes to the right, the lower one back.
		tip := to - 3
		tail := from + 3
		line := y - 10
		if i == 1 {
			tip = from + 3
			tail = to - 3
			line = y + 10
		}

		// The head points where the line goes.
		back := 6
		if tip < tail {
			back = -6
		}

		fmt.Fprintf(b,
			`<path d="M%d %dH%dm%d -4l%d 4l%d 4" fill="none" stroke="#374151" stroke-width="1.5"/>`+
				"\n",
			tail, line, tip, -back, back, -back)
		text(b, "l", (from+to)/2, line-6+i*20, label)
	}
}

// text writes a line, centred.
func text(b *bytes.Buffer, class string, x, y int, words string) {
	if words != "" {
		fmt.Fprintf(b, `<text class="%s" x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", class,
			x, y, escape(words))
	}
}

// spoken is the picture for those who do not see it.
func spoken() string {
	words := "The way of a login:"
	for i, p := range way {
		if i > 0 {
			words += ";"
		}
		words += " " + p.title + ":"
		for j, part := range p.boxes {
			if j > 0 {
				words += ","
			}
			words += " " + part.name
		}
	}

	return words
}

// escape makes a text fit for XML.
func escape(s string) string {
	var b bytes.Buffer
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return ""
	}
	return b.String()
}
