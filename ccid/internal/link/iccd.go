package link

import (
	"context"
	"encoding/binary"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/message"
)

// Requests of ICCD (USB ICC, revision 1.0, chapters 4 and 6) to a card that is its own reader.
const (
	iccdPowerOn    = 0x62
	iccdPowerOff   = 0x63
	iccdXfrBlock   = 0x65
	iccdDataBlock  = 0x6F
	iccdSlotStatus = 0x81 // version B
	iccdGetStatus  = 0xA0 // version A

	iccdOut = 0x21
	iccdIn  = 0xA1
)

// Values of version A's status byte.
const (
	iccdBusy   = 0x40
	iccdMute   = 0x80
	iccdData   = 0x10 // data is expected, or can be fetched
	iccdStatus = 0x20 // the status word can be fetched
)

// First bytes of version B's data block.
const (
	iccdFailed = 0x40
	iccdWait   = 0x80
)

// Bounds of ICCD.
const (
	iccdLongest  = 0x1000 // bytes of one control transfer
	iccdInterval = 10 * time.Millisecond
)

// ICCD exchanges messages with a card that is a USB device, by control transfers
// (bInterfaceProtocol 1 and 2). It has one slot.
type ICCD struct {
	t      device.Transport
	b      bool // version B
	number byte // bInterfaceNumber
	buffer [iccdLongest]byte
	on     bool // the card has power
}

// NewICCD returns an ICCD for the interface with a number, of version A or B.
func NewICCD(t device.Transport, number byte, b bool) *ICCD {
	return &ICCD{t: t, b: b, number: number}
}

// Exchange translates a command to requests of ICCD, so that its callers need not distinguish a
// reader and such a card.
func (c *ICCD) Exchange(
	ctx context.Context, slot int, command message.Command, timeout time.Duration,
) (message.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	switch m := command.(type) {
	case message.PowerOn:
		return c.powerOn(ctx)
	case message.PowerOff:
		a := message.Answer{Type: message.TypeSlotStatus, Status: byte(message.ICCInactive)}
		return a, c.powerOff(ctx)
	case message.GetSlotStatus:
		return c.status(ctx)
	case *message.XfrBlock:
		if c.b {
			return c.blockB(ctx, *m)
		}
		return c.blockA(ctx, *m)
	}

	// As a reader answers what it does not know: ICCD has no parameters, escapes or PIN pads.
	return message.Answer{}, &message.Error{Slot: slot, Status: 0x40, Code: message.CodeUnsupported}
}

// out sends a request to the card, with data.
func (c *ICCD) out(ctx context.Context, request byte, value uint16, data []byte) error {
	setup := device.Setup{
		RequestType: iccdOut,
		Request:     request,
		Value:       value,
		Index:       uint16(c.number),
	}
	n, err := c.t.Control(ctx, setup, data)
	if err == nil && n != len(data) {
		return ifd.Errorf(ifd.Communication, "the card took %d of %d bytes", n, len(data))
	}
	if err != nil {
		return ifd.TransportError("sending to the card", err)
	}
	return nil
}

// in reads the card's answer to a request. It is valid until the next call.
func (c *ICCD) in(ctx context.Context, request byte, size int) ([]byte, error) {
	setup := device.Setup{
		RequestType: iccdIn,
		Request:     request,
		Index:       uint16(c.number),
	}
	n, err := c.t.Control(ctx, setup, c.buffer[:size])
	if err != nil {
		return nil, ifd.TransportError("reading from the card", err)
	}
	return c.buffer[:n], nil
}

// powerOn switches off first: the state that the card was left in is not known.
func (c *ICCD) powerOn(ctx context.Context) (message.Answer, error) {
	if err := c.powerOff(ctx); err != nil {
		return message.Answer{}, err
	}

	// Version A answers with the ATR itself; version B stores it as a data block.
	a := message.Answer{Type: message.TypeDataBlock}
	if !c.b {
		if _, err := c.ready(ctx); err != nil {
			return a, err
		}
		atr, err := c.in(ctx, iccdPowerOn, iccdLongest)
		a.Data = atr
		c.on = err == nil
		return a, err
	}

	if err := c.out(ctx, iccdPowerOn, 1, nil); err != nil {
		return a, err
	}
	a, err := c.dataB(ctx)
	c.on = err == nil
	return a, err
}

// powerOff switches the card off.
func (c *ICCD) powerOff(ctx context.Context) error {
	c.on = false
	if err := c.out(ctx, iccdPowerOff, 0, nil); err != nil || !c.b {
		return err
	}

	// Version B has the result of a request in its slot status, which has to be read.
	_, err := c.in(ctx, iccdSlotStatus, 3)
	return err
}

// status is the slot status. Version A has none; its card cannot be taken out, so that it is known
// from what was sent.
func (c *ICCD) status(ctx context.Context) (message.Answer, error) {
	a := message.Answer{Type: message.TypeSlotStatus, Status: byte(message.ICCInactive)}
	if c.on {
		a.Status = byte(message.ICCActive)
	}

	if !c.b {
		_, err := c.in(ctx, iccdGetStatus, 1)
		return a, err
	}
	raw, err := c.in(ctx, iccdSlotStatus, 3)
	if err == nil && len(raw) >= 2 {
		a.Status = raw[1] & 3
	}
	return a, err
}

// ready waits until a card of version A is not busy, and returns its status.
func (c *ICCD) ready(ctx context.Context) (byte, error) {
	for {
		raw, err := c.in(ctx, iccdGetStatus, 1)
		switch {
		case err != nil:
			return 0, err
		case len(raw) != 1:
			return 0, ifd.Errorf(ifd.Communication, "the card's status has %d bytes", len(raw))
		case raw[0] == iccdMute:
			return 0, ifd.Errorf(ifd.Communication, "the card is mute")
		case raw[0]&iccdBusy == 0:
			return raw[0], nil
		}

		if err := Pause(ctx, iccdInterval); err != nil {
			return 0, ifd.TransportError("waiting for the card", err)
		}
	}
}

// blockA exchanges a TPDU or an APDU with a card of version A. A TPDU of T=0 goes in two parts: the
// header, then what the card's status asks for.
func (c *ICCD) blockA(ctx context.Context, m message.XfrBlock) (message.Answer, error) {
	data := m.Data
	// A case 1 command of four bytes has no P3: the header needs one.
	if len(data) == 4 {
		data = append(append(make([]byte, 0, 5), data...), 0)
	}
	if err := c.out(ctx, iccdXfrBlock, 0, data[:min(5, len(data))]); err != nil {
		return message.Answer{}, err
	}

	data = data[min(5, len(data)):]
	a := message.Answer{Type: message.TypeDataBlock}
	var answer []byte
	// Each round the card has to accept the rest of the command or to send data: an empty answer
	// ends the loop, LongestAnswer bounds it, and so does the context.
	for {
		status, err := c.ready(ctx)
		if err != nil {
			return a, err
		}

		switch {
		case status&iccdData != 0 && len(data) > 0:
			if err := c.out(ctx, iccdXfrBlock, 0, data); err != nil {
				return a, err
			}
			data = nil
			continue
		case len(answer) > LongestAnswer:
			return a, ifd.Errorf(ifd.Communication, "the card's answer does not end")
		}

		raw, err := c.in(ctx, iccdDataBlock, iccdLongest)
		if err != nil {
			return a, err
		}

		answer = append(answer, raw...)
		if status&iccdData == 0 || len(raw) == 0 {
			a.Data = answer
			return a, nil
		}
	}
}

// blockB sends a block to a card of version B and fetches the answer; chaining is above this.
func (c *ICCD) blockB(ctx context.Context, m message.XfrBlock) (message.Answer, error) {
	if err := c.out(ctx, iccdXfrBlock, m.Level<<8, m.Data); err != nil {
		return message.Answer{}, err
	}
	return c.dataB(ctx)
}

// dataB fetches a data block. Its first byte is the kind of it: data, failure, or a time to wait.
func (c *ICCD) dataB(ctx context.Context) (message.Answer, error) {
	a := message.Answer{Type: message.TypeDataBlock}
	for {
		raw, err := c.in(ctx, iccdDataBlock, iccdLongest)
		switch {
		case err != nil:
			return a, err
		case len(raw) == 0:
			return a, ifd.Errorf(ifd.Communication, "the card answers nothing")
		}

		switch raw[0] {
		case message.ChainWhole, message.ChainBegins, message.ChainEnds,
			message.ChainMiddle, message.ChainContinue:
			a.Special, a.Data = raw[0], raw[1:]
			return a, nil
		case iccdFailed:
			e := &message.Error{Status: 0x40, Code: message.CodeMute}
			if len(raw) >= 3 {
				e.Code = raw[2]
			}
			return a, e
		case iccdWait:
		default:
			return a, ifd.Errorf(
				ifd.Communication, "the card's data block begins with %02X", raw[0])
		}

		// In units of 10 ms (ICCD 1.0): the card has not finished, and the same request is
		// repeated.
		wait := iccdInterval
		if len(raw) >= 3 {
			wait *= time.Duration(max(binary.LittleEndian.Uint16(raw[1:]), 1))
		}

		if err := Pause(ctx, wait); err != nil {
			return a, ifd.TransportError("waiting for the card", err)
		}
	}
}
