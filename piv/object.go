package piv

import (
	"context"
	"fmt"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// getData names the command that reads an object by its tag (SP 800-73-4 part 2, section 3.1.2).
func getData(tag uint32) command {
	list := []byte{0x5C, 3, byte(tag >> 16), byte(tag >> 8), byte(tag)}
	if tag < 0x100 {
		list = []byte{0x5C, 1, byte(tag)}
	}
	return command{name: fmt.Sprintf("GET DATA %X", tag), ins: 0xCB, p1: 0x3F, p2: 0xFF, data: list, answers: true}
}

// object reads a whole object. It is not present where the card says so in one of the ways in which
// cards do.
func (c *connection) object(ctx context.Context, tag uint32) (content []byte, present bool, err error) {
	cmd := getData(tag)
	a, err := c.send(ctx, cmd)
	if err != nil {
		return nil, false, err
	}
	if absent, err := judgeObject(cmd.name, a); absent || err != nil {
		return nil, false, err
	}
	return data.Object(a.data)
}

// judgeObject tells of the word after GET DATA whether the object is not there, or cannot be read.
// Data with a warning is data.
func judgeObject(name string, a answer) (absent bool, err error) {
	switch {
	case a.sw.OK() || len(a.data) > 0 && (a.sw.SW1() == 0x62 || a.sw.SW1() == 0x63):
		return len(a.data) == 0, nil
	case a.sw == iso7816.StatusFileNotFound, a.sw == iso7816.StatusWrongData,
		a.sw == iso7816.StatusFunction, a.sw == iso7816.StatusNoReference:
		return true, nil
	case a.sw == iso7816.StatusWrongINS, a.sw == iso7816.StatusWrongCLA:
		return false, fmt.Errorf("%w: %w", errNotPIV, refused(token.ErrFault, name, a.sw))
	}
	return false, &unreadable{refused(nil, name, a.sw)}
}

// errNotPIV: the card does not know PIV's commands: another application is selected.
var errNotPIV = fmt.Errorf("PIV is not selected")

// unreadable is the error of one object that concerns no other.
type unreadable struct{ err error }

func (e *unreadable) Error() string { return e.err.Error() }
func (e *unreadable) Unwrap() error { return e.err }
