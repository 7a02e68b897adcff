package ccid

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/internal/link"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/iso7816"
)

// PINVerify is PIN_VERIFY of PC/SC part 10, section 2.5.2: what an application says of a PIN to be entered at the keys.
type PINVerify struct {
	TimeOut, TimeOut2 byte // seconds: bTimerOut to the first key, bTimerOut2 after it
	FormatString      byte // bmFormatString
	PINBlockString    byte // bmPINBlockString
	PINLengthFormat   byte // bmPINLengthFormat
	MaxExtraDigit     uint16
	Condition         byte // bEntryValidationCondition
	NumberMessage     byte
	LangID            uint16
	MsgIndex          byte
	TeoPrologue       [3]byte
	Data              []byte // the APDU
}

// PINModify is PIN_MODIFY of PC/SC part 10, section 2.5.3.
type PINModify struct {
	TimeOut, TimeOut2  byte
	FormatString       byte
	PINBlockString     byte
	PINLengthFormat    byte
	InsertionOffsetOld byte
	InsertionOffsetNew byte
	MaxExtraDigit      uint16
	ConfirmPIN         byte
	Condition          byte
	NumberMessage      byte
	LangID             uint16
	MsgIndex           [3]byte
	TeoPrologue        [3]byte
	Data               []byte
}

// Lengths of the structures up to the data.
const (
	lengthVerify = 19
	lengthModify = 24
)

var errPINStructure = &ifd.Fault{Code: ifd.Unsupported, Text: "the PIN structure is malformed"}

// ParsePINVerify reads the structure. Its length must be right; nothing else is judged.
func ParsePINVerify(b []byte) (*PINVerify, error) {
	le := binary.LittleEndian
	if len(b) < lengthVerify || uint64(le.Uint32(b[15:])) != uint64(len(b)-lengthVerify) {
		return nil, errPINStructure
	}
	return &PINVerify{TimeOut: b[0], TimeOut2: b[1], FormatString: b[2], PINBlockString: b[3], PINLengthFormat: b[4],
		MaxExtraDigit: le.Uint16(b[5:]), Condition: b[7], NumberMessage: b[8], LangID: le.Uint16(b[9:]), MsgIndex: b[11],
		TeoPrologue: [3]byte(b[12:]), Data: b[lengthVerify:]}, nil
}

// Append appends the structure to b.
func (v *PINVerify) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, v.TimeOut, v.TimeOut2, v.FormatString, v.PINBlockString, v.PINLengthFormat)
	b = append(le.AppendUint16(b, v.MaxExtraDigit), v.Condition, v.NumberMessage)
	b = append(le.AppendUint16(b, v.LangID), v.MsgIndex, v.TeoPrologue[0], v.TeoPrologue[1], v.TeoPrologue[2])
	return append(le.AppendUint32(b, uint32(len(v.Data))), v.Data...)
}

// ParsePINModify reads the structure. Its length must be right; nothing else is judged.
func ParsePINModify(b []byte) (*PINModify, error) {
	le := binary.LittleEndian
	if len(b) < lengthModify || uint64(le.Uint32(b[20:])) != uint64(len(b)-lengthModify) {
		return nil, errPINStructure
	}
	return &PINModify{TimeOut: b[0], TimeOut2: b[1], FormatString: b[2], PINBlockString: b[3], PINLengthFormat: b[4],
		InsertionOffsetOld: b[5], InsertionOffsetNew: b[6], MaxExtraDigit: le.Uint16(b[7:]), ConfirmPIN: b[9],
		Condition: b[10], NumberMessage: b[11], LangID: le.Uint16(b[12:]), MsgIndex: [3]byte(b[14:]),
		TeoPrologue: [3]byte(b[17:]), Data: b[lengthModify:]}, nil
}

// Append appends the structure to b.
func (m *PINModify) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, m.TimeOut, m.TimeOut2, m.FormatString, m.PINBlockString, m.PINLengthFormat, m.InsertionOffsetOld, m.InsertionOffsetNew)
	b = append(le.AppendUint16(b, m.MaxExtraDigit), m.ConfirmPIN, m.Condition, m.NumberMessage)
	b = append(append(le.AppendUint16(b, m.LangID), m.MsgIndex[:]...), m.TeoPrologue[:]...)
	return append(le.AppendUint32(b, uint32(len(m.Data))), m.Data...)
}

// verifyBlock is the data of Secure (CCID 1.1, section 6.1.11.1) for a verification.
func verifyBlock(q *plan.PINQuirks, v PINVerify) []byte {
	mendCommon(q, &v.Condition, &v.MaxExtraDigit)
	v.NumberMessage = messageNumber(q, v.NumberMessage)
	le := binary.LittleEndian
	b := []byte{0, v.TimeOut, v.FormatString, v.PINBlockString, v.PINLengthFormat}
	b = append(le.AppendUint16(b, v.MaxExtraDigit), v.Condition, v.NumberMessage)
	b = append(append(le.AppendUint16(b, v.LangID), v.MsgIndex), v.TeoPrologue[:]...)
	return append(b, v.Data...)
}

// modifyBlock is the data of Secure (6.1.11.2) for a change. bMsgIndex2 is there when bNumberMessage is not 0,
// bMsgIndex3 when it is 3 or FF. allIndexes is for readers that want all three whatever the number is.
func modifyBlock(q *plan.PINQuirks, m PINModify, allIndexes bool) ([]byte, error) {
	if m.NumberMessage > 3 && m.NumberMessage != 0xFF {
		return nil, ifd.Errorf(ifd.Unsupported, "bNumberMessage %d", m.NumberMessage)
	}
	mendCommon(q, &m.Condition, &m.MaxExtraDigit)
	number := messageNumber(q, m.NumberMessage)
	if q.AllIndexes {
		number, m.MsgIndex = 0, [3]byte{}
	}
	le := binary.LittleEndian
	b := []byte{1, m.TimeOut, m.FormatString, m.PINBlockString, m.PINLengthFormat, m.InsertionOffsetOld, m.InsertionOffsetNew}
	b = append(le.AppendUint16(b, m.MaxExtraDigit), m.ConfirmPIN, m.Condition, number)
	b = append(le.AppendUint16(b, m.LangID), m.MsgIndex[0])
	if all := q.AllIndexes || allIndexes; all || number != 0 {
		b = append(b, m.MsgIndex[1])
		if all || number >= 3 {
			b = append(b, m.MsgIndex[2])
		}
	}
	return append(append(b, m.TeoPrologue[:]...), m.Data...), nil
}

// mendCommon puts right what both structures have: a condition of 0 or above 7 means nothing, and is made "validation key
// pressed".
func mendCommon(q *plan.PINQuirks, condition *byte, digits *uint16) {
	if *condition == 0 || *condition > 7 {
		*condition = 2
	}
	if q.Condition != 0 {
		*condition = q.Condition
	}
	if q.SwapDigits {
		*digits = *digits<<8 | *digits>>8
	}
}

// messageNumber is bNumberMessage as the reader wants it.
func messageNumber(q *plan.PINQuirks, n byte) byte {
	switch {
	case q.Messages >= 0:
		return byte(q.Messages)
	case n == 0 && q.ZeroIsFF:
		return 0xFF
	}
	return n
}

// verifyPIN is FEATURE_VERIFY_PIN_DIRECT.
func (s *Slot) verifyPIN(ctx context.Context, in []byte) ([]byte, error) {
	v, err := ParsePINVerify(in)
	if err != nil {
		return nil, err
	}
	if err := checkPINCommand(v.Data); err != nil {
		return nil, err
	}
	q := &s.reader.plan.PIN
	v.Condition = s.reader.maskCondition(v.Condition)
	if q.NoLength && v.PINBlockString&0xF0 == 0 && len(v.Data) == 4 {
		if _, err := s.command(ctx, message.Escape{Data: []byte{0x80, 0x02, 0x00}}, s.reader.plan.Timeout); err != nil {
			return nil, err
		}
	}
	if err := link.Pause(ctx, q.Wait); err != nil {
		return nil, s.ended(ifd.TransportError("waiting for the reader", err))
	}
	return s.secure(ctx, v.TimeOut, v.Data, func(prologue *[3]byte) ([]byte, error) {
		if prologue != nil {
			v.TeoPrologue = *prologue
		}
		return verifyBlock(q, *v), nil
	})
}

// modifyPIN is FEATURE_MODIFY_PIN_DIRECT. Readers of Gemalto without the fix for it read all three indexes.
func (s *Slot) modifyPIN(ctx context.Context, in []byte) ([]byte, error) {
	m, err := ParsePINModify(in)
	if err != nil {
		return nil, err
	}
	if err := checkPINCommand(m.Data); err != nil {
		return nil, err
	}
	q := &s.reader.plan.PIN
	m.Condition = s.reader.maskCondition(m.Condition)
	all := s.reader.gemalto != nil && !s.reader.gemalto.numberFix
	if err := link.Pause(ctx, q.Wait); err != nil {
		return nil, s.ended(ifd.TransportError("waiting for the reader", err))
	}
	return s.secure(ctx, m.TimeOut, m.Data, func(prologue *[3]byte) ([]byte, error) {
		if prologue != nil {
			m.TeoPrologue = *prologue
		}
		return modifyBlock(q, *m, all)
	})
}

// checkPINCommand wants an APDU with a header, and a length that fits what is there.
func checkPINCommand(apdu []byte) error {
	if len(apdu) < 4 || len(apdu) > 5+iso7816.MaxShortNc+1 {
		return ifd.Errorf(ifd.Unsupported, "the command for the PIN has %d bytes", len(apdu))
	}
	return nil
}

// pinTimeout is how long a person may take at the keys.
func pinTimeout(timerOut byte) time.Duration {
	return max(90*time.Second, (time.Duration(timerOut)+10)*time.Second)
}

// Status words of a PIN operation that the reader ends itself (PC/SC part 10, section 2.5.6).
var (
	swPINTimeout   = []byte{0x64, 0x00}
	swPINCancelled = []byte{0x64, 0x01}
)

// secure performs a PIN operation. build makes the data of the message; it gets the prologue of the T=1 block that the
// reader is to send, where the host is in charge of T=1, else nil. template is the command without the PIN.
func (s *Slot) secure(ctx context.Context, timerOut byte, template []byte, build func(*[3]byte) ([]byte, error)) ([]byte, error) {
	if !s.powered {
		return nil, ifd.Errorf(ifd.Communication, "the card has no power")
	}
	answer, err := s.securely(ctx, timerOut, template, build)
	var failed *message.Error
	switch {
	case errors.As(err, &failed) && failed.Code == message.CodePINCancelled:
		return append([]byte(nil), swPINCancelled...), nil
	case errors.As(err, &failed) && failed.Code == message.CodePINTimeout:
		return append([]byte(nil), swPINTimeout...), nil
	case ifd.Absent(err):
		s.missing()
	}
	s.judge(err)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), answer...), nil
}

func (s *Slot) securely(ctx context.Context, timerOut byte, template []byte, build func(*[3]byte) ([]byte, error)) ([]byte, error) {
	if s.t1 != nil {
		return s.secureT1(ctx, timerOut, template, build)
	}
	data, err := build(nil)
	if err != nil {
		return nil, err
	}
	if err := s.fits(len(data)); err != nil {
		return nil, err
	}
	a, err := s.command(ctx, message.Secure{Data: data}, pinTimeout(timerOut))
	return a.Data, err
}

// secureT1 is a PIN operation in which the reader makes the block from our prologue. The engine is told the command
// without the PIN; a block with that must never go to the card, for which it would be a wrong PIN: when the engine wants
// it sent (again), the operation has failed.
func (s *Slot) secureT1(ctx context.Context, timerOut byte, template []byte, build func(*[3]byte) ([]byte, error)) ([]byte, error) {
	if err := s.straighten(ctx); err != nil {
		return nil, err
	}
	if len(template) > s.t1.IFSC() {
		return nil, ifd.Errorf(ifd.Unsupported, "the command for the PIN is longer than a block of the card")
	}
	step := s.t1.Transmit(template)
	s.astray = true // until the exchange has ended well
	if step.Done || len(step.Send) < 3 {
		return nil, &ifd.Fault{Code: ifd.Communication, Text: "T=1", Cause: step.Err}
	}
	data, err := build((*[3]byte)(step.Send))
	if err != nil {
		return nil, err
	}
	if err := s.fits(len(data)); err != nil {
		return nil, err
	}
	a, err := s.command(ctx, message.Secure{Data: data}, pinTimeout(timerOut))
	if err != nil {
		return nil, err
	}
	if len(a.Data) == 2 { // a status word of the reader: nothing went to the card
		return a.Data, nil
	}
	for step = s.t1.Receive(a.Data); !step.Done; {
		const isNoI = 0x80
		if step.Send[1]&isNoI == 0 {
			return nil, ifd.Errorf(ifd.Communication, "the card did not understand the block with the PIN")
		}
		block, err := s.blockT1(ctx, step.Send, step.WTX)
		if err != nil {
			return nil, err
		}
		step = s.t1.Receive(block)
	}
	if step.Err != nil {
		return nil, &ifd.Fault{Code: ifd.Communication, Text: "T=1", Cause: step.Err}
	}
	s.astray = false
	return step.Response, nil
}

// gemaltoFeatures are what readers of Gemalto answer to the escape 6A.
type gemaltoFeatures struct {
	condition byte // bEntryValidationCondition that the reader knows
	numberFix bool // bNumberMessage may be less than 3 in a change
}

// askGemalto asks for the features. Readers that do not know the question have no features.
func (r *Reader) askGemalto(ctx context.Context) {
	a, err := r.link.Exchange(ctx, 0, message.Escape{Data: []byte{0x6A}}, r.plan.Timeout)
	if err != nil || len(a.Data) < 9 {
		return
	}
	r.gemalto = &gemaltoFeatures{condition: a.Data[3], numberFix: a.Data[8]&0x04 != 0}
}

// condition is the bEntryValidationCondition to tell: that of the table of quirks, or the reader's, or otherwise.
func (r *Reader) condition(otherwise byte) byte {
	switch {
	case r.plan.PIN.Condition != 0:
		return r.plan.PIN.Condition
	case r.gemalto != nil:
		return r.gemalto.condition
	}
	return otherwise
}

// maskCondition leaves of a condition what the reader knows.
func (r *Reader) maskCondition(c byte) byte {
	if r.gemalto != nil && r.gemalto.condition != 0 {
		return c & r.gemalto.condition
	}
	return c
}
