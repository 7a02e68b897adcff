// Package pcsctest has simulated readers and cards for tests of the resource manager, and Debian's
// pcscd for comparison with them.
package pcsctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
)

// Card answers commands. It may be asked from several goroutines, one at a time.
type Card interface {
	ATR() []byte
	Reset()
	Transmit(command []byte) ([]byte, error)
}

// PowerOff is a Card that is told when it loses its power.
type PowerOff interface{ PowerOff() }

func powerOff(c Card) {
	if p, ok := c.(PowerOff); ok {
		p.PowerOff()
	}
}

// EchoCard answers every command with its bytes and 9000.
type EchoCard struct {
	Bytes  []byte // ATR; nil is EchoATR
	Resets int
}

// EchoATR offers T=0 and T=1; EchoATRT0 only T=0.
var (
	EchoATR   = []byte{0x3B, 0x80, 0x80, 0x01, 0x01}
	EchoATRT0 = []byte{0x3B, 0x00}
)

// ATR is Bytes or EchoATR.
func (c *EchoCard) ATR() []byte {
	if c.Bytes != nil {
		return c.Bytes
	}
	return EchoATR
}

// Reset counts.
func (c *EchoCard) Reset() { c.Resets++ }

// Transmit answers with the command and 9000 after it.
func (c *EchoCard) Transmit(command []byte) ([]byte, error) {
	return append(bytes.Clone(command), 0x90, 0x00), nil
}

// SizeCard answers at once with as many bytes as the command's first three bytes after CLA say, 24
// bits, and nothing else: the time measured is that of the resource manager alone.
type SizeCard struct{ answer []byte }

// ATR is EchoATR.
func (c *SizeCard) ATR() []byte { return EchoATR }

// Reset does nothing.
func (c *SizeCard) Reset() {}

// Transmit answers with bytes 1 to 3 of command as a length, in all, 9000 at the end.
func (c *SizeCard) Transmit(command []byte) ([]byte, error) {
	if len(command) < 4 {
		return []byte{0x67, 0x00}, nil
	}

	n := int(command[1])<<16 | int(command[2])<<8 | int(command[3])
	// An extended APDU brings 65536 bytes and the status word at most.
	if n < 2 || n > 65538 {
		n = 2
	}
	// The buffer is kept for the next answer: to make one would be measured too.
	if len(c.answer) < n {
		c.answer = make([]byte, n)
	}

	answer := c.answer[:n]
	answer[n-2] = 0x90
	answer[n-1] = 0x00
	return answer, nil
}

// IFDError is a driver's error by its code of the IFD handler API.
type IFDError int

// Error is the number in words.
func (e IFDError) Error() string { return fmt.Sprintf("IFD %d", int(e)) }

// IFDCode is the number.
func (e IFDError) IFDCode() int { return int(e) }

// Slot is a slot whose card is put in and taken out by the test.
type Slot struct {
	// Fault is called before every call with its name ("PowerUp", "Transmit", ...). It may wait; an
	// error is the result of the call. Set it before the slot is used.
	Fault func(call string) error
	// Mute makes cards fail to power up.
	Mute bool
	// Codes are control codes and what they answer, beside the escape (which echoes). Set both maps
	// before the slot is used, or by Answer and Provide.
	Codes map[uint32][]byte
	// Handlers are control codes that the slot acts on, such as the PIN entry of a pad. They
	// may send commands to the card.
	Handlers map[uint32]Handler
	// Attributes that the slot has.
	Attributes map[uint32][]byte

	events chan bool

	busy sync.Mutex // held while the card works; Remove does not wait for it

	mu       sync.Mutex // guards the fields below
	card     Card
	powered  bool
	stopped  bool
	protocol uint32
	calls    map[string]int
}

// Handler performs a control code; transmit asks the card that is in the slot.
type Handler func(in []byte, transmit func(command []byte) ([]byte, error)) ([]byte, error)

// NewSlot makes an empty slot. With notify it reports movements by itself.
func NewSlot(notify bool) *Slot {
	s := &Slot{calls: map[string]int{}, Attributes: map[uint32][]byte{}}
	if notify {
		s.events = make(chan bool, 1024)
	}
	return s
}

// Insert puts a card in. A card that was there is taken out first.
func (s *Slot) Insert(c Card) {
	s.Remove()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.card = c
	s.powered = false
	s.protocol = 0
	s.notify(true)
}

// Remove takes the card out, if there is one.
func (s *Slot) Remove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card == nil {
		return
	}

	powerOff(s.card)
	s.card = nil
	s.powered = false
	s.notify(false)
}

// Provide gives the slot an attribute while it is in use.
func (s *Slot) Provide(id uint32, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Attributes[id] = value
}

// Answer makes the slot know a control code while it is in use.
func (s *Slot) Answer(code uint32, out []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Codes == nil {
		s.Codes = map[uint32][]byte{}
	}
	s.Codes[code] = out
}

// Stir notifies the manager, though no card has moved.
func (s *Slot) Stir() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify(s.card != nil)
}

// notify sends an event, which the channel has room for, unless the slot does not notify.
func (s *Slot) notify(present bool) {
	if s.events != nil {
		s.events <- present
	}
}

// Calls is how often a method was called.
func (s *Slot) Calls(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

// Stop makes the card fail every command until it is powered anew.
func (s *Slot) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
}

// Stopped reports whether Stop was called since the card got its power.
func (s *Slot) Stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// Powered reports whether a card is in the slot and switched on.
func (s *Slot) Powered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.powered
}

// enter counts a call, and returns the fault that the test wants for it.
func (s *Slot) enter(name string) error {
	s.mu.Lock()
	s.calls[name]++
	s.mu.Unlock()

	// Without mu: Fault may wait, and may itself move the card.
	if s.Fault != nil {
		return s.Fault(name)
	}
	return nil
}

// Events is the channel of movements; nil for a slot that does not notify.
func (s *Slot) Events() <-chan bool { return s.events }

// Present reports whether a card is in.
func (s *Slot) Present(context.Context) (bool, error) {
	if err := s.enter("Present"); err != nil {
		return false, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	return s.card != nil, nil
}

// PowerUp switches the card on.
func (s *Slot) PowerUp(context.Context) ([]byte, error) { return s.power("PowerUp") }

// Reset resets the card.
func (s *Slot) Reset(context.Context) ([]byte, error) { return s.power("Reset") }

// power switches the card on, or resets it: to the card both are a reset.
func (s *Slot) power(name string) ([]byte, error) {
	if err := s.enter(name); err != nil {
		return nil, err
	}

	// A card that is at work is not powered meanwhile: busy comes before mu.
	s.busy.Lock()
	defer s.busy.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	// The numbers are those of pcsc.ErrorCodeNotPresent and its neighbours.
	case s.card == nil:
		return nil, IFDError(616)
	case s.Mute:
		return nil, IFDError(608)
	}

	s.card.Reset()
	s.powered = true
	s.protocol = 0
	s.stopped = false
	return bytes.Clone(s.card.ATR()), nil
}

// PowerDown switches the card off.
func (s *Slot) PowerDown(context.Context) error {
	if err := s.enter("PowerDown"); err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.powered {
		powerOff(s.card)
	}
	s.powered = false
	s.protocol = 0
	return nil
}

// SetProtocol notes the protocol.
func (s *Slot) SetProtocol(_ context.Context, protocol uint32) error {
	if err := s.enter("SetProtocol"); err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card == nil {
		return IFDError(616)
	}
	s.protocol = protocol
	return nil
}

// Transmit sends a command to the card. The card may be pulled out while it works, even by its own
// doing: then the answer is lost.
func (s *Slot) Transmit(_ context.Context, protocol uint32, command, reply []byte) ([]byte, error) {
	if err := s.enter("Transmit"); err != nil {
		return nil, err
	}

	s.busy.Lock()
	defer s.busy.Unlock()
	card, err := s.ready(protocol)
	if err != nil {
		return nil, err
	}

	// Without mu, so that the card can be pulled out meanwhile.
	answer, err := card.Transmit(command)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.card != card || !s.powered {
		return nil, IFDError(616)
	}
	return append(reply[:0], answer...), err
}

// ready returns the card that takes a command under a protocol.
func (s *Slot) ready(protocol uint32) (Card, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.card == nil:
		return nil, IFDError(616)
	case !s.powered:
		return nil, errors.New("the card is switched off")
	case s.stopped:
		return nil, IFDError(612)
	case protocol != 4 && protocol != s.protocol:
		return nil, fmt.Errorf("protocol %d used, %d set", protocol, s.protocol)
	}
	return s.card, nil
}

// Control echoes an escape, and knows Codes and Handlers.
func (s *Slot) Control(ctx context.Context, code uint32, in []byte, max int) ([]byte, error) {
	if err := s.enter("Control"); err != nil {
		return nil, err
	}

	s.mu.Lock()
	out, ok := s.Codes[code]
	handler, protocol := s.Handlers[code], s.protocol
	s.mu.Unlock()

	// A handler may call Transmit, which needs the locks.
	if handler != nil {
		return handler(in, func(command []byte) ([]byte, error) {
			return s.Transmit(ctx, protocol, command, nil)
		})
	}

	switch {
	case code == 0x42000001:
		out = in
	case !ok:
		return nil, errors.ErrUnsupported
	}

	if len(out) > max {
		return nil, IFDError(618)
	}
	return bytes.Clone(out), nil
}

// Attribute reads from Attributes.
func (s *Slot) Attribute(_ context.Context, id uint32) ([]byte, error) {
	if err := s.enter("Attribute"); err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.Attributes[id]; ok {
		return bytes.Clone(v), nil
	}
	return nil, IFDError(600)
}

// SetAttribute writes to those Attributes that exist.
func (s *Slot) SetAttribute(_ context.Context, id uint32, value []byte) error {
	if err := s.enter("SetAttribute"); err != nil {
		return err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.Attributes[id]; !ok {
		return IFDError(600)
	}
	s.Attributes[id] = bytes.Clone(value)
	return nil
}
