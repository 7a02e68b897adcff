package piv_test

import (
	"bytes"
	"context"
	"iter"
	"testing"
	"time"

	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv"
	"pam_pkcs11/token"
)

// oneReader is a service with one reader and a card in it, and nothing else: no goroutines, no
// waits. What the card answers is changed as a text of bytes says.
type oneReader struct {
	pcsc.Service // nil: what is not here is not used

	card     *simcard.Card
	protocol pcsc.Protocol
	script   []byte
	sent     int // commands
	pins     int // with a PIN in them
	stray    int // PINs not right after SELECT of PIV in the same transaction
	selected bool
}

func (o *oneReader) EstablishContext(pcsc.Scope) (pcsc.SCardContext, error) { return 1, nil }
func (o *oneReader) ReleaseContext(pcsc.SCardContext) error                 { return nil }
func (o *oneReader) ListReaders(pcsc.SCardContext) ([]string, error)        { return []string{reader}, nil }

func (o *oneReader) Connect(
	context.Context, pcsc.SCardContext, string, pcsc.ShareMode, pcsc.Protocol,
) (pcsc.Handle, pcsc.Protocol, error) {
	return 1, o.protocol, o.next()
}

func (o *oneReader) Reconnect(
	pcsc.Handle, pcsc.ShareMode, pcsc.Protocol, pcsc.Disposition,
) (pcsc.Protocol, error) {
	return o.protocol, o.next()
}

func (o *oneReader) Disconnect(_ context.Context, _ pcsc.Handle, d pcsc.Disposition) error {
	return o.EndTransaction(0, d)
}

func (o *oneReader) BeginTransaction(context.Context, pcsc.Handle) error {
	o.selected = false
	return o.next()
}

func (o *oneReader) EndTransaction(_ pcsc.Handle, d pcsc.Disposition) error {
	if d == pcsc.ResetCard {
		o.card.Reset()
	}
	o.selected = false
	return nil
}

func (o *oneReader) Control(pcsc.Handle, uint32, []byte, int) ([]byte, error) {
	return nil, pcsc.ErrUnsupportedFeature
}

func (o *oneReader) Status(pcsc.Handle) (*pcsc.CardStatus, error) {
	return &pcsc.CardStatus{Reader: reader, State: pcsc.Present}, nil
}

func (o *oneReader) GetStatusChange(
	_ context.Context, _ pcsc.SCardContext, states []pcsc.ReaderState, _ time.Duration,
) error {
	for i := range states {
		states[i].EventState, states[i].ATR = pcsc.StatePresent, o.card.ATR()
	}
	return nil
}

// take takes bytes from the script; at its end there are zeros, which change nothing.
func (o *oneReader) take(n int) []byte {
	taken := make([]byte, n)
	o.script = o.script[copy(taken, o.script):]
	return taken
}

// results are what calls fail with.
var results = []pcsc.Error{
	pcsc.ErrResetCard, pcsc.ErrRemovedCard, pcsc.ErrCommError, pcsc.ErrUnpoweredCard, pcsc.ErrNotTransacted,
}

// next is the result of a call that has none of its own.
func (o *oneReader) next() error {
	if b := o.take(1)[0]; b >= 0xF0 {
		return results[int(b)%len(results)]
	}
	return nil
}

// Transmit lets the card answer, or the script in its place.
func (o *oneReader) Transmit(_ pcsc.Handle, _ pcsc.Protocol, command []byte, max int) ([]byte, error) {
	o.sent++
	if command[1] == 0x20 && len(command) > 5 {
		o.pins++
		if !o.selected {
			o.stray++
		}
	}
	answer, err := o.card.Transmit(command)
	if err != nil {
		return nil, err
	}
	if command[1] == 0xA4 {
		o.selected = true
	}

	switch how := o.take(1)[0]; {
	case how < 0x80: // as it is
	case how < 0xA0: // another word
		copy(answer[len(answer)-2:], o.take(2))
	case how < 0xB0: // one byte is another
		at := o.take(2)
		answer[(int(at[0])<<8|int(at[1]))%len(answer)] ^= how | 1
	case how < 0xC0: // cut
		answer = answer[:int(o.take(1)[0])%len(answer)]
	case how < 0xD8: // the script's own
		answer = append(o.take(int(o.take(1)[0])), 0x90, 0x00)
	case how < 0xE8:
		answer = append(o.take(int(o.take(1)[0])), 0x61, o.take(1)[0])
	case how < 0xF0: // the same for ever
		answer = append(make([]byte, 256), 0x61, 0x00)
	default:
		return nil, results[int(how)%len(results)]
	}
	if len(answer) > max {
		return nil, pcsc.ErrInsufficientBuffer
	}
	return answer, nil
}

// FuzzLogin logs in to a card that answers anything at any step. The card has the user's
// certificate, and in every other run the key. There is no success without it, and no PIN beyond
// the rules.
func FuzzLogin(f *testing.F) {
	der := certify(p256(), "Alice", 1)
	f.Add(byte(0), []byte{})
	f.Add(byte(1), []byte{})
	f.Add(byte(2), []byte{0, 0, 0xF0, 0, 0, 0})
	f.Add(byte(3), []byte{0, 0, 0, 0x81, 0x61, 0x00, 0x80, 0x90, 0x00})
	f.Add(byte(0), []byte{0, 0, 0, 0xEF, 0xEF, 0xEF})
	f.Add(byte(5), []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x90, 0, 0xC5, 4, 0x7C, 2, 0x82, 0})

	f.Fuzz(func(t *testing.T, kind byte, script []byte) {
		card := newCard(t, simcard.Options{})
		hasKey := kind&1 != 0
		var err error
		if hasKey {
			err = card.SetKey(simcard.KeyAuthentication, p256(), der)
		} else {
			err = card.SetKey(simcard.KeyAuthentication, nil, der)
		}
		if err != nil {
			t.Fatal(err)
		}
		o := &oneReader{card: card, protocol: pcsc.ProtocolT1, script: script}
		if kind&2 != 0 {
			o.protocol = pcsc.ProtocolT0
		}
		pin := rightPIN
		if kind&4 != 0 {
			pin = "999999"
		}

		good := fuzzedLogin(t, o, pin, der)
		if good && (!hasKey || pin != rightPIN) {
			t.Errorf("logged in without the key, or without the PIN")
		}
		// One entry, and at most one more for each of two keys that want it again.
		if o.pins > 6 || o.stray > 0 {
			t.Errorf("%d PINs were sent, %d of them without SELECT before", o.pins, o.stray)
		}
		if left, _ := card.Tries(); left < 2 || left < 3 && pin == rightPIN {
			t.Errorf("%d tries are left", left)
		}
		if o.sent > 4000 {
			t.Errorf("%d commands", o.sent)
		}
	})
}

// fuzzedLogin is a whole login, and reports whether the signature was the certificate's.
func fuzzedLogin(t *testing.T, o *oneReader, pin string, der []byte) bool {
	m, err := piv.New(o, piv.Options{Serial: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	slots, err := m.Slots(t.Context())
	if err != nil || len(slots) != 1 || slots[0].Token == nil {
		return false
	}
	s, err := m.Open(t.Context(), slots[0])
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	var objects []token.Object
	collect := func(shown iter.Seq2[token.Object, error]) {
		for o, err := range shown {
			if err == nil && o.Err == nil {
				objects = append(objects, o)
			}
		}
	}
	collect(s.Certificates(t.Context()))
	typed := newPIN(t, pin)
	defer typed.Wipe()
	choose := func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
		if len(objects) == 0 {
			collect(shown)
		}
		return token.Choice{Objects: objects, Message: func() ([]byte, error) { return challenge, nil }}, nil
	}
	sig, err := s.LogInAndSign(t.Context(), typed, choose)
	if err != nil || sig.Bytes == nil {
		return false
	}
	// What the card has shown counts for a user only where it is the certificate of the
	// authority's: the script cannot make one.
	c := objects[sig.Object].Cert
	return bytes.Equal(c.Raw, der) && verifies(c.PublicKey, sig, challenge)
}
