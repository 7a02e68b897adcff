package card

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/piv/internal/channel"
	"pam_pkcs11/piv/internal/data"
	"pam_pkcs11/token"
)

// getData is the command that reads an object by its tag (SP 800-73-4 part 2, section 3.1.2).
func getData(tag uint32) channel.Command {
	list := []byte{0x5C, 3, byte(tag >> 16), byte(tag >> 8), byte(tag)}
	if tag < 0x100 {
		list = []byte{0x5C, 1, byte(tag)}
	}
	return channel.Command{
		Name:    fmt.Sprintf("GET DATA %X", tag),
		INS:     0xCB,
		P1:      0x3F,
		P2:      0xFF,
		Data:    list,
		Answers: true,
	}
}

// readObject reads a whole object. present is false where the card says in one of several ways that
// there is none.
func readObject(
	ctx context.Context, ch *channel.Channel, tag uint32,
) (content []byte, present bool, err error) {
	cmd := getData(tag)

	a, err := ch.Send(ctx, cmd)
	if errors.Is(err, channel.ErrLong) {
		return nil, false, &unreadable{errors.New(err.Error())}
	}
	if err != nil {
		return nil, false, err
	}

	if absent, err := checkObject(cmd.Name, a); absent || err != nil {
		return nil, false, err
	}

	content, present, err = data.Object(a.Data)
	if err != nil {
		err = &unreadable{fmt.Errorf("%s: %w", cmd.Name, err)}
	}
	return content, present, err
}

// checkObject returns whether the answer to GET DATA says that the object is absent, or cannot be
// read. Data with a warning is data.
func checkObject(name string, a channel.Answer) (absent bool, err error) {
	switch warning := a.SW.SW1() == 0x62 || a.SW.SW1() == 0x63; {
	case a.SW.OK(), warning && len(a.Data) > 0:
		return len(a.Data) == 0, nil
	case a.SW == iso7816.StatusFileNotFound, a.SW == iso7816.StatusWrongData,
		a.SW == iso7816.StatusFunction, a.SW == iso7816.StatusNoReference:
		return true, nil
	case a.SW == iso7816.StatusWrongINS, a.SW == iso7816.StatusWrongCLA:
		// Every PIV application knows GET DATA.
		return false, fmt.Errorf("%w: %w", ErrNotPIV, channel.Refused(token.ErrFault, name, a.SW))
	}
	return false, &unreadable{channel.Refused(nil, name, a.SW)}
}

// ErrNotPIV is returned where the card does not know PIV's commands: another application is
// selected.
var ErrNotPIV = errors.New("PIV is not selected")

// unreadable is an error about one object; others may be readable.
type unreadable struct{ err error }

// Error implements error.
func (e *unreadable) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *unreadable) Unwrap() error { return e.err }

// isUnreadable reports whether an error is about one object only.
func isUnreadable(err error) bool {
	var one *unreadable
	return errors.As(err, &one)
}
