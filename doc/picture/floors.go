package main

import (
	"bytes"
	"fmt"
)

// floor is a storey of the house: its packages import those of the floors below, and some of their
// own floor, and none above.
type floor struct {
	title string
	wings [2][]string // of the login, and of the readers; what both use is in the first
}

// house is from the top down. A name stands for the package and those below it that have no place
// of their own.
var house = []floor{
	{"programs", [2][]string{
		{"pam", "cmd/pam-pkcs11"},
		{"cmd/pcscd"},
	}},
	{"for people", [2][]string{
		{"setup", "doctor", "explain", "inventory"},
		{},
	}},
	{"decisions", [2][]string{
		{"login"},
		{"pcsc/server"},
	}},
	{"parts", [2][]string{
		{"verify", "mapper", "piv", "pkcs11"},
		{"pcsc/resmgr", "ccid"},
	}},
	{"seams", [2][]string{
		{"config", "token"},
		{"pcsc"},
	}},
	{"ground", [2][]string{
		{"internal/certinfo", "internal/ldapconn", "internal/fetch", "internal/safefile",
			"internal/secret"},
		{"internal/iso7816"},
	}},
}

// Lengths of the picture of the floors, in pixels.
const (
	floorHeight = 66
	roomWidth   = 128
	roomHeight  = 38
	titleWidth  = 96
	roomsAWing  = 5
)

// drawFloors makes the picture of the floors.
func drawFloors() []byte {
	wingWidth := roomsAWing*(roomWidth+gap) + gap
	readersWidth := 2*(roomWidth+gap) + gap
	width := 2*margin + titleWidth + wingWidth + gap + readersWidth
	height := 2*margin + titleHeight + len(house)*floorHeight

	var b bytes.Buffer
	begin(&b, width, height, spokenFloors())
	login := margin + titleWidth
	readers := login + wingWidth + gap
	text(&b, "t", login+wingWidth/2, margin+20, "the login")
	text(&b, "t", readers+readersWidth/2, margin+20, "the readers")

	for i, f := range house {
		y := margin + titleHeight + i*floorHeight
		text(&b, "n", margin+titleWidth/2-6, y+floorHeight/2+4, f.title)
		storey(&b, login, y, wingWidth, "#2563eb", f.wings[0])
		storey(&b, readers, y, readersWidth, "#7c3aed", f.wings[1])
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// storey draws one wing of a floor, with its rooms in the middle.
func storey(b *bytes.Buffer, x, y, width int, colour string, rooms []string) {
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="#f9fafb" stroke="%s"/>`+"\n",
		x, y, width, floorHeight, colour)

	// The rooms are in the middle of their wing.
	left := x + (width-len(rooms)*(roomWidth+gap)+gap)/2
	for i, room := range rooms {
		at := left + i*(roomWidth+gap)
		fmt.Fprintf(b,
			`<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="#ffffff" stroke="%s"/>`+"\n",
			at, y+(floorHeight-roomHeight)/2, roomWidth, roomHeight, colour)
		text(b, "l", at+roomWidth/2, y+floorHeight/2+4, room)
	}
}

// spokenFloors is the picture for those who do not see it.
func spokenFloors() string {
	words := "The floors, from the top down:"
	for i, f := range house {
		if i > 0 {
			words += ";"
		}
		words += " " + f.title + ":"
		for _, wing := range f.wings {
			for _, room := range wing {
				words += " " + room
			}
		}
	}

	return words
}
