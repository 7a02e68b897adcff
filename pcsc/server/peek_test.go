package server

import (
	"bytes"
	"testing"

	"pam_pkcs11/pcsc/internal/schedule"
)

// pieces is a client whose octets come in these pieces.
type pieces struct {
	schedule.Conn
	left [][]byte
}

func (p *pieces) Read(b []byte, _ bool) (int, error) {
	n := copy(b, p.left[0])
	p.left = p.left[1:]
	return n, nil
}

// TestPeekLeavesNoCopy: a command with a PIN whose beginning is moved, to the front of the buffer or
// into a larger one, stands in one place, which is cleared after it was sent.
func TestPeekLeavesNoCopy(t *testing.T) {
	for name, large := range map[string]int{"moved to the front": 24, "into a larger buffer": 64} {
		t.Run(name, func(t *testing.T) {
			buffer := make([]byte, 32)
			secret := bytes.Repeat([]byte("1"), 8)
			rest := bytes.Repeat([]byte("."), large-len(secret))
			c := &conn{
				in:     buffer,
				stream: &pieces{left: [][]byte{append(make([]byte, 16), secret...), rest}},
			}

			if _, err := c.peek(16); err != nil {
				t.Fatal(err)
			}
			c.discard(16)
			command, err := c.peek(large)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(command, append(secret, rest...)) {
				t.Fatalf("command %q", command)
			}
			clear(command)
			if bytes.Contains(buffer, []byte("1")) {
				t.Errorf("the buffer still has %q", buffer)
			}
		})
	}
}
