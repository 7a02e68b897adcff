package channel

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/pcsc"
)

// Limits on the answers of a card: bytes of one answer, and GET RESPONSE commands for it.
const (
	maxAnswer = 16 << 10
	maxRounds = 128
)

// ErrLong is part of the error of an answer that is longer than the limit.
var ErrLong = errors.New("an answer")

// claChain is the CLA of all commands of a chain but the last (SP 800-73-4 part 2, section 2.4.2).
const claChain = 0x10

// Command is a command to the card. It is sent as short APDUs.
type Command struct {
	Name        string // for the trace and for errors; without the data
	INS, P1, P2 byte
	Data        []byte // more than 255 bytes are sent as a chain
	Answers     bool   // the card has data to answer
}

// Answer is the answer to a command.
type Answer struct {
	Data []byte
	SW   iso7816.Status
}

// Send sends a command and gathers the whole answer.
func (c *Channel) Send(ctx context.Context, cmd Command) (Answer, error) {
	a, err := c.First(ctx, cmd)
	if err != nil {
		return a, err
	}
	return c.Rest(ctx, cmd.Name, a)
}

// First sends a command and returns the first part of its answer: at most 256 bytes, with 61xx
// where there is more. A caller that does not want the rest need not fetch it: the next command
// discards it.
func (c *Channel) First(ctx context.Context, cmd Command) (Answer, error) {
	a, err := c.chain(ctx, cmd)
	if err != nil || len(a.Data) > 0 {
		return a, err
	}

	// With T=0 a command with data gets 61xx and no data.
	if _, more := a.SW.More(); more && cmd.Answers {
		return c.getResponse(ctx, cmd.Name, a.SW)
	}
	return a, nil
}

// chain sends a command, in pieces where it is long. Its answer is that to the last piece, or the
// first one that refuses a piece.
func (c *Channel) chain(ctx context.Context, cmd Command) (Answer, error) {
	data := cmd.Data
	for len(data) > iso7816.MaxShortNc {
		a, err := c.exchange(ctx, cmd.Name, &iso7816.Command{
			CLA:  claChain,
			INS:  cmd.INS,
			P1:   cmd.P1,
			P2:   cmd.P2,
			Data: data[:iso7816.MaxShortNc],
		})
		if err != nil || a.SW != iso7816.StatusOK {
			return a, err
		}
		data = data[iso7816.MaxShortNc:]
	}

	last := iso7816.Command{
		INS:  cmd.INS,
		P1:   cmd.P1,
		P2:   cmd.P2,
		Data: data,
	}

	// With T=0 there is no room for Le beside data (ISO/IEC 7816-3).
	if cmd.Answers && (!c.isT0() || len(data) == 0) {
		last.Ne = iso7816.MaxShortNe
	}
	return c.exchange(ctx, cmd.Name, &last)
}

// exchange sends one APDU, and once more where the card names the right Le (6Cxx): it has not
// executed the command then.
func (c *Channel) exchange(
	ctx context.Context, name string, apdu *iso7816.Command,
) (Answer, error) {
	for again := false; ; again = true {
		bytes, err := apdu.Marshal()
		if err != nil {
			return Answer{}, err
		}

		a, err := c.transmit(ctx, name, bytes, nil)
		if err != nil {
			return a, err
		}

		le, wrong := a.SW.RightLe()
		if !wrong || again || len(a.Data) > 0 {
			return a, nil
		}
		apdu.Ne = le
	}
}

// Rest fetches what follows the first part of an answer. Some cards do not say that there is more:
// the length of the outer data object shows it.
func (c *Channel) Rest(ctx context.Context, name string, a Answer) (Answer, error) {
	for round := 0; ; round++ {
		_, more := a.SW.More()
		full := len(a.Data) > 0 && len(a.Data)%iso7816.MaxShortNe == 0
		// Such a card says 9000 with a full answer, in the middle of an object.
		silent := a.SW == iso7816.StatusOK && full && outerLength(a.Data) > len(a.Data)

		switch {
		case !more && !silent:
			return a, nil
		case len(a.Data) > maxAnswer || outerLength(a.Data) > maxAnswer || round == maxRounds:
			return Answer{}, Malformed(name, "%w of more than %d bytes", ErrLong, maxAnswer)
		}

		next, err := c.getResponse(ctx, name, a.SW)
		if err != nil {
			return Answer{}, err
		}

		// There was no more: whoever reads the object sees that it is cut short.
		if silent && next.SW != iso7816.StatusOK && len(next.Data) == 0 {
			return a, nil
		}
		if len(next.Data) == 0 && next.SW.SW1() == 0x61 {
			return Answer{}, Malformed(name, "GET RESPONSE brought nothing")
		}
		a = Answer{append(a.Data, next.Data...), next.SW}
	}
}

// getResponse sends GET RESPONSE (SP 800-73-4 part 2, section 2.4.1).
func (c *Channel) getResponse(ctx context.Context, name string, sw iso7816.Status) (Answer, error) {
	le, more := sw.More()
	if !more {
		le = iso7816.MaxShortNe
	}
	return c.exchange(ctx, name+" (GET RESPONSE)", &iso7816.Command{INS: 0xC0, Ne: le})
}

// outerLength returns the whole length of the data object that b begins with; 0 where b has no such
// length.
func outerLength(b []byte) int {
	_, header, length, ok := iso7816.ReadTLVHeader(b)
	if !ok {
		return 0
	}
	return header + length
}

// transmit sends the bytes of one APDU. hidden, where it is not nil, is the memory of bytes. It is
// wiped when the call has returned, even if the caller has given it up before.
func (c *Channel) transmit(
	ctx context.Context, name string, bytes []byte, hidden *secret.PIN,
) (Answer, error) {
	if err := c.ready(ctx); err != nil {
		hidden.Wipe()
		return Answer{}, err
	}
	c.options.Trace(name)
	defer c.options.Trace("")

	// Whatever is sent now comes after the PIN; verify sets it again.
	c.Fresh = false
	protocol := c.card.ActiveProtocol()
	raw, err := start(ctx, c, name, func() ([]byte, error) {
		defer hidden.Wipe()
		return c.options.Service.Transmit(c.card.Handle(), protocol, bytes, iso7816.MaxShortNe+2)
	})
	if err != nil {
		c.Unsure = true
		return Answer{}, err
	}

	if len(raw) > longAnswer {
		c.long = time.Now()
	}

	data, sw, err := iso7816.ParseResponse(raw)
	if err != nil {
		return Answer{}, Malformed(name, "%w", err)
	}

	// With its capacity cut, an append to the data cannot write over the status word.
	return Answer{data[:len(data):len(data)], sw}, nil
}

// Some YubiKeys 4 hang in a command that waits for a touch where it comes within two seconds after
// an answer of more than 54 bytes, unless another command is sent between (yubikit).
const (
	longAnswer = 54
	longTime   = 2 * time.Second
)

// Settle sends such a command where it is needed: one that no card knows.
func (c *Channel) Settle(ctx context.Context) error {
	if time.Since(c.long) > longTime {
		return nil
	}
	_, err := c.exchange(ctx, "(none)", &iso7816.Command{})
	return err
}

// isT0 reports whether the card uses T=0.
func (c *Channel) isT0() bool { return c.card.ActiveProtocol() == pcsc.ProtocolT0 }
