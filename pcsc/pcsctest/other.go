package pcsctest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/pcsc"
)

// Other is another program that uses the card in a reader while the program under test does.
type Other struct {
	context *pcsc.Context
	reader  string
	card    *pcsc.Card // nil while it is not connected
}

// NewOther makes a program that has not yet connected to the card.
func NewOther(s pcsc.Service, reader string) (*Other, error) {
	c, err := pcsc.NewContext(s)
	if err != nil {
		return nil, err
	}
	return &Other{context: c, reader: reader}, nil
}

// Close ends the program in order: it disconnects, and leaves the card as it is.
func (o *Other) Close() error {
	var err error
	if o.card != nil {
		err = o.card.Disconnect(pcsc.LeaveCard)
		o.card = nil
	}
	return errors.Join(err, o.context.Release())
}

// Do carries out what words say, and returns when it is done. It connects, sharing the card, before
// words that need it.
//
//	connect exclusively   shares the card with nobody; an error when somebody else has it
//	reset now             disconnects, and resets the card
//	leave                 disconnects, and leaves the card as it is
//	begin                 begins a transaction, which lasts until:
//	end                   ends the transaction
//	end with reset        ends the transaction, and resets the card
//	hold DURATION         a transaction that lasts so long
//	select foreign        selects the second applet of the simulated card
//	select HEX            selects an applet
//	verify PIN            presents a PIN to PIV, which must be right
//	send HEX              sends a command; whatever it is answered
func (o *Other) Do(words string) error {
	verb, rest, _ := strings.Cut(words, " ")
	// Not with the others, which share the card first.
	if words == "connect exclusively" {
		return o.connect(pcsc.ShareExclusive)
	}

	if o.card == nil && words != "leave" {
		if err := o.connect(pcsc.ShareShared); err != nil {
			return err
		}
	}

	switch {
	case words == "reset now":
		return o.disconnect(pcsc.ResetCard)
	case words == "leave":
		return o.disconnect(pcsc.LeaveCard)
	case words == "begin":
		return o.card.BeginTransaction()
	case words == "end":
		return o.card.EndTransaction(pcsc.LeaveCard)
	case words == "end with reset":
		return o.card.EndTransaction(pcsc.ResetCard)
	case verb == "hold":
		return o.hold(rest)
	case words == "select foreign":
		return o.selectApplet(simcard.ForeignAID)
	case verb == "select":
		aid, err := hex.DecodeString(rest)
		if err != nil {
			return err
		}
		return o.selectApplet(aid)
	case verb == "verify":
		return o.verify(rest)
	case verb == "send":
		command, err := hex.DecodeString(rest)
		if err != nil {
			return err
		}
		_, err = o.card.Transmit(command)
		return err
	}
	return fmt.Errorf("the other program does not know %q", words)
}

func (o *Other) connect(mode pcsc.ShareMode) error {
	if o.card != nil {
		return errors.New("the other program is connected already")
	}

	card, err := o.context.Connect(o.reader, mode, pcsc.ProtocolAny)
	if err != nil {
		return err
	}
	o.card = card
	return nil
}

func (o *Other) disconnect(d pcsc.Disposition) error {
	if o.card == nil {
		return nil
	}

	// Disconnected, whatever the answer: a card that has gone cannot be disconnected twice.
	card := o.card
	o.card = nil
	return card.Disconnect(d)
}

func (o *Other) hold(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}

	if err := o.card.BeginTransaction(); err != nil {
		return err
	}
	time.Sleep(d)
	return o.card.EndTransaction(pcsc.LeaveCard)
}

// transmitOK sends a command that must be answered 9000 or 61xx.
func (o *Other) transmitOK(command []byte) error {
	answer, err := o.card.Transmit(command)
	if err != nil {
		return err
	}

	n := len(answer)
	if n < 2 || answer[n-2] != 0x90 && answer[n-2] != 0x61 {
		return fmt.Errorf("%X: %X", command[:4], answer)
	}
	return nil
}

func (o *Other) selectApplet(aid []byte) error {
	return o.transmitOK(append([]byte{0x00, 0xA4, 0x04, 0x00, byte(len(aid))}, aid...))
}

// verify selects PIV and verifies its PIN, as a program of the desktop does.
func (o *Other) verify(pin string) error {
	err := o.selectApplet([]byte{0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00})
	if err != nil {
		return err
	}

	// A PIN of PIV is padded to 8 bytes with FF (SP 800-73-4 part 2, 2.4.3).
	command := []byte{0x00, 0x20, 0x00, 0x80, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	copy(command[5:], pin)
	return o.transmitOK(command)
}
