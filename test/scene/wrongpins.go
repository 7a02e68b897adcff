package scene

import (
	"errors"
	"fmt"

	"pam_pkcs11/pcsc"
)

// selectPIV selects the PIV application (SP 800-73-4, part 2, 3.1.1).
const selectPIV = "\x00\xa4\x04\x00\x05\xa0\x00\x00\x03\x08\x00"

// WrongPINs sends a PIN of six characters, which is not the card's, n times to the PIV card in the
// only reader of the daemon at a socket.
func WrongPINs(socket, wrong string, n int) (err error) {
	c, err := pcsc.NewContext(pcsc.NewClient(socket))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Release()) }()

	names, err := c.ListReaders()
	if err != nil {
		return err
	}
	if len(names) != 1 || len(wrong) != 6 {
		return fmt.Errorf("%d readers, and a PIN of %d characters", len(names), len(wrong))
	}
	card, err := c.Connect(names[0], pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, card.Disconnect(pcsc.ResetCard)) }()

	if _, err := card.Transmit([]byte(selectPIV)); err != nil {
		return err
	}
	for range n {
		answer, err := card.Transmit([]byte("\x00\x20\x00\x80\x08" + wrong + "\xff\xff"))
		if err != nil {
			return err
		}
		if string(answer) == "\x90\x00" {
			return errors.New("the PIN is the card's")
		}
	}
	return nil
}
