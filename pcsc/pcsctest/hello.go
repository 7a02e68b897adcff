package pcsctest

import "bytes"

// HelloCard has the applet of the binding scard's sample: it is selected by its identifier and
// answers "Hello world!".
type HelloCard struct{ selected bool }

// helloApplet is the identifier in the sample.
var helloApplet = []byte{0xA0, 0x00, 0x00, 0x00, 0x62, 0x03, 0x01, 0x0C, 0x06, 0x01}

// ATR is EchoATR.
func (c *HelloCard) ATR() []byte { return EchoATR }

// Reset forgets the selection.
func (c *HelloCard) Reset() { c.selected = false }

// Transmit answers SELECT by name, and the command 00 of the applet.
func (c *HelloCard) Transmit(command []byte) ([]byte, error) {
	switch {
	case len(command) > 5 && command[1] == 0xA4:
		if c.selected = bytes.Equal(command[5:], helloApplet); !c.selected {
			return []byte{0x6A, 0x82}, nil
		}
		return []byte{0x90, 0x00}, nil
	case c.selected && bytes.Equal(command, []byte{0, 0, 0, 0}):
		return append([]byte("Hello world!"), 0x90, 0x00), nil
	}
	return []byte{0x6D, 0x00}, nil
}
