package iso7816

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Command is a command APDU (12.1).
type Command struct {
	CLA, INS, P1, P2 byte
	Data             []byte // 0 to 65535 bytes
	Ne               int    // the longest response data wanted, 0 to 65536; 0 is no Le field
	// Extended asks for fields of extended length also where short ones are long enough. Where they
	// are not, Marshal uses extended fields without being asked.
	Extended bool
}

// The greatest lengths of data that short fields express.
const (
	MaxShortNc = 255
	MaxShortNe = 256
	maxNc      = 65535
	maxNe      = 65536
)

// ErrAPDU is the cause of every error about the form of an APDU.
var ErrAPDU = errors.New("malformed APDU")

// Case is the case of a command (12.1.2): 1 carries nothing, 2 wants response data, 3 has command
// data, 4 both.
func (c *Command) Case() int {
	n := 1
	if c.Ne > 0 {
		n++
	}
	if len(c.Data) > 0 {
		n += 2
	}
	return n
}

// IsExtended reports whether Marshal makes fields of extended length.
func (c *Command) IsExtended() bool {
	return c.Case() != 1 && (c.Extended || len(c.Data) > MaxShortNc || c.Ne > MaxShortNe)
}

// Marshal writes the command (12.1.3). Data or Ne beyond their limits are an error around ErrAPDU.
func (c *Command) Marshal() ([]byte, error) { return c.Append(nil) }

// Append is Marshal to the end of dst.
func (c *Command) Append(dst []byte) ([]byte, error) {
	if len(c.Data) > maxNc || c.Ne < 0 || c.Ne > maxNe {
		return nil, fmt.Errorf("%w: %d bytes of data, %d wanted", ErrAPDU, len(c.Data), c.Ne)
	}

	dst = append(dst, c.CLA, c.INS, c.P1, c.P2)
	if c.IsExtended() {
		// One 00 announces the extended form of both fields; then Lc and Le have two bytes each.
		dst = append(dst, 0)
		if len(c.Data) > 0 {
			dst = binary.BigEndian.AppendUint16(dst, uint16(len(c.Data)))
			dst = append(dst, c.Data...)
		}
		if c.Ne > 0 {
			dst = binary.BigEndian.AppendUint16(dst, uint16(c.Ne)) // 65536 is 0000
		}
		return dst, nil
	}

	if len(c.Data) > 0 {
		dst = append(dst, byte(len(c.Data)))
		dst = append(dst, c.Data...)
	}
	if c.Ne > 0 {
		dst = append(dst, byte(c.Ne)) // 256 is 00
	}
	return dst, nil
}

// ParseCommand reads a command APDU of any case, short or extended. Data points into b.
func ParseCommand(b []byte) (Command, error) {
	if len(b) < 4 {
		return Command{}, fmt.Errorf("%w: %d bytes", ErrAPDU, len(b))
	}

	c := Command{
		CLA: b[0],
		INS: b[1],
		P1:  b[2],
		P2:  b[3],
	}
	body := b[4:]
	switch {
	case len(body) == 0:
		return c, nil
	case len(body) == 1:
		c.Ne = fromLe(int(body[0]), MaxShortNe)
		return c, nil
	case body[0] == 0 && len(body) >= 3:
		// No short Lc is 00, so this byte can only announce fields of extended length.
		return c, c.parseExtended(body[1:])
	}

	nc := int(body[0])
	c.Data = body[1:]
	switch {
	case nc == 0 || len(c.Data) < nc || len(c.Data) > nc+1:
		return Command{}, fmt.Errorf("%w: %d bytes for Lc %d", ErrAPDU, len(c.Data), nc)
	case len(c.Data) == nc+1:
		c.Ne = fromLe(int(c.Data[nc]), MaxShortNe)
		// The capacity ends with the data, so that an append does not overwrite the Le of b.
		c.Data = c.Data[:nc:nc]
	}
	return c, nil
}

// fromLe is the length that a byte or two of Le stand for: all of them 0 is the greatest one, zero.
func fromLe(le, zero int) int {
	if le == 0 {
		return zero
	}
	return le
}

// parseExtended reads what follows the 00 that announces fields of extended length.
func (c *Command) parseExtended(b []byte) error {
	c.Extended = true
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]

	// Nothing behind the first length: it is Le (case 2), else Lc.
	if len(b) == 0 {
		c.Ne = fromLe(n, maxNe)
		return nil
	}

	if n == 0 || len(b) != n && len(b) != n+2 {
		return fmt.Errorf("%w: %d bytes for Lc %d", ErrAPDU, len(b), n)
	}

	c.Data = b[:n:n]
	if len(b) == n+2 {
		c.Ne = fromLe(int(binary.BigEndian.Uint16(b[n:])), maxNe)
	}
	return nil
}

// ParseResponse splits a response APDU into data, which points into b, and status word.
func ParseResponse(b []byte) (data []byte, sw Status, err error) {
	if len(b) < 2 || len(b) > maxNe+2 {
		return nil, 0, fmt.Errorf("%w: response of %d bytes", ErrAPDU, len(b))
	}
	n := len(b) - 2
	return b[:n:n], Status(binary.BigEndian.Uint16(b[n:])), nil
}

// AppendResponse writes a response APDU to the end of dst.
func AppendResponse(dst, data []byte, sw Status) []byte {
	return binary.BigEndian.AppendUint16(append(dst, data...), uint16(sw))
}
