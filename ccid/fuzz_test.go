package ccid_test

import (
	"bytes"
	"testing"
	"testing/synctest"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/iso7816"
)

// FuzzPINStructures: what decodes encodes to the same bytes, and what is sent to the reader has the right length and
// ends with the APDU as it was.
func FuzzPINStructures(f *testing.F) {
	v, m := verification(), modification()
	f.Add(v.Append(nil), uint16(0))
	f.Add(m.Append(nil), uint16(16))
	f.Fuzz(func(t *testing.T, raw []byte, quirks uint16) {
		v, err := ccid.ParsePINVerify(raw)
		if err == nil && !bytes.Equal(v.Append(nil), raw) {
			t.Errorf("%+v is not % X", v, raw)
		}
		m, err2 := ccid.ParsePINModify(raw)
		if err2 == nil && !bytes.Equal(m.Append(nil), raw) {
			t.Errorf("%+v is not % X", m, raw)
		}
		if err != nil {
			v = &ccid.PINVerify{}
		}
		if err2 != nil {
			m = &ccid.PINModify{}
		}
		a, b, err := ccid.SecureBlocks(*v, *m, quirks)
		if len(a) != 15+len(v.Data) || !bytes.HasSuffix(a, v.Data) || a[0] != 0 {
			t.Errorf("verify % X", a)
		}
		if err == nil && (len(b) < 18+len(m.Data) || len(b) > 20+len(m.Data) || !bytes.HasSuffix(b, m.Data) || b[0] != 1) {
			t.Errorf("modify % X", b)
		}
	})
}

// FuzzT1ThroughTheDriver: a card that answers any blocks, on a TPDU reader: the driver ends, does not panic, and gives
// an answer only when the card sent one; after a reset a good card works.
func FuzzT1ThroughTheDriver(f *testing.F) {
	f.Add([]byte{}, []byte{0, 0, 2, 0x90, 0, 0x92})
	f.Add([]byte{4}, []byte{0, 0x40, 2, 0x90, 0, 0xD2})
	f.Add([]byte{4, 4, 3}, []byte{0, 0xC3, 1, 5, 0xC7, 0, 0x82, 0, 0x82, 0, 0xE0, 0, 0xE0})
	f.Fuzz(func(t *testing.T, lengths, stream []byte) {
		synctest.Test(t, func(t *testing.T) {
			d := ccidtest.New(profile(descriptor(tpdu)))
			r, err := ccid.Open(t.Context(), d.Transport(0), d.Info(), interfaceOf(t, d, 0), plan.Options{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			s := r.Slots()[0]
			card := &ccidtest.PatternCard{Bytes: atrT1}
			d.Insert(0, 0, card)
			ready(t, s, t1)
			d.Inject(script(lengths, stream))
			answer, err := s.Transmit(t.Context(), t1, apdu(300, 300), nil)
			if err == nil && len(answer) == 0 {
				t.Log("an empty answer") // a card may send an empty I block
			}
			d.Inject(ccidtest.To(message.TypeXfrBlock, func(*ccidtest.Exchange) bool { return true }))
			ready(t, s, t1)
			exchange(t, s, t1, apdu(20, 20))
		})
	})
}

// script answers blocks with pieces of a stream, then lets the card answer. A length of 255 is a failed command.
func script(lengths, stream []byte) ccidtest.Fault {
	return func(x *ccidtest.Exchange) bool {
		if x.Request[0] != byte(message.TypeXfrBlock) {
			return x.Request[0] == byte(message.TypePowerOn)
		}
		if len(lengths) == 0 {
			return true
		}
		n := int(lengths[0])
		lengths = lengths[1:]
		if n == 255 {
			return ccidtest.Fails(0xFD)(x) && len(lengths) == 0
		}
		n = min(n, len(stream))
		piece := stream[:n]
		stream = stream[n:]
		if len(piece) > 3 { // half of the pieces have a right check sum
			piece = bytes.Clone(piece)
			if piece[len(piece)-1]&1 == 0 {
				piece[len(piece)-1] = iso7816.LRC(piece[:len(piece)-1])
			}
		}
		ccidtest.Data(func([]byte) []byte { return piece })(x)
		return len(lengths) == 0
	}
}
