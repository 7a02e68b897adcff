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

// PINVerify is PIN_VERIFY of PC/SC part 10, section 2.5.2: what an application asks of the reader
// when a PIN is to be entered at its keys.
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

// ParsePINVerify reads the structure. Its length must be right; its fields are not checked.
func ParsePINVerify(b []byte) (*PINVerify, error) {
	le := binary.LittleEndian
	// ulDataLength as uint64: it is not trusted, and must not overflow where int has 32 bits.
	if len(b) < lengthVerify || uint64(le.Uint32(b[15:])) != uint64(len(b)-lengthVerify) {
		return nil, errPINStructure
	}

	return &PINVerify{
		TimeOut:         b[0],
		TimeOut2:        b[1],
		FormatString:    b[2],
		PINBlockString:  b[3],
		PINLengthFormat: b[4],
		MaxExtraDigit:   le.Uint16(b[5:]),
		Condition:       b[7],
		NumberMessage:   b[8],
		LangID:          le.Uint16(b[9:]),
		MsgIndex:        b[11],
		TeoPrologue:     [3]byte(b[12:]),
		Data:            b[lengthVerify:],
	}, nil
}

// Append appends the structure to b.
func (v *PINVerify) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, v.TimeOut, v.TimeOut2, v.FormatString, v.PINBlockString, v.PINLengthFormat)
	b = append(le.AppendUint16(b, v.MaxExtraDigit), v.Condition, v.NumberMessage)
	b = append(append(le.AppendUint16(b, v.LangID), v.MsgIndex), v.TeoPrologue[:]...)
	return append(le.AppendUint32(b, uint32(len(v.Data))), v.Data...)
}

// ParsePINModify reads the structure. Its length must be right; its fields are not checked.
func ParsePINModify(b []byte) (*PINModify, error) {
	le := binary.LittleEndian
	if len(b) < lengthModify || uint64(le.Uint32(b[20:])) != uint64(len(b)-lengthModify) {
		return nil, errPINStructure
	}

	return &PINModify{
		TimeOut:            b[0],
		TimeOut2:           b[1],
		FormatString:       b[2],
		PINBlockString:     b[3],
		PINLengthFormat:    b[4],
		InsertionOffsetOld: b[5],
		InsertionOffsetNew: b[6],
		MaxExtraDigit:      le.Uint16(b[7:]),
		ConfirmPIN:         b[9],
		Condition:          b[10],
		NumberMessage:      b[11],
		LangID:             le.Uint16(b[12:]),
		MsgIndex:           [3]byte(b[14:]),
		TeoPrologue:        [3]byte(b[17:]),
		Data:               b[lengthModify:],
	}, nil
}

// Append appends the structure to b.
func (m *PINModify) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, m.TimeOut, m.TimeOut2, m.FormatString, m.PINBlockString, m.PINLengthFormat)
	b = append(b, m.InsertionOffsetOld, m.InsertionOffsetNew)
	b = append(le.AppendUint16(b, m.MaxExtraDigit), m.ConfirmPIN, m.Condition, m.NumberMessage)
	b = append(append(le.AppendUint16(b, m.LangID), m.MsgIndex[:]...), m.TeoPrologue[:]...)
	return append(le.AppendUint32(b, uint32(len(m.Data))), m.Data...)
}

// verifyBlock is the data of Secure (CCID 1.1, section 6.1.11.1) for a verification. It has no
// bTimerOut2.
func verifyBlock(q *plan.PINQuirks, v PINVerify) []byte {
	fixCommon(q, &v.Condition, &v.MaxExtraDigit)
	v.NumberMessage = messageNumber(q, v.NumberMessage)

	le := binary.LittleEndian
	b := []byte{0, v.TimeOut, v.FormatString, v.PINBlockString, v.PINLengthFormat}
	b = append(le.AppendUint16(b, v.MaxExtraDigit), v.Condition, v.NumberMessage)
	b = append(append(le.AppendUint16(b, v.LangID), v.MsgIndex), v.TeoPrologue[:]...)
	return append(b, v.Data...)
}

// modifyBlock is the data of Secure (6.1.11.2) for a change. bMsgIndex2 is there when
// bNumberMessage is not 0, bMsgIndex3 when it is 3 or FF. allIndexes is for readers that want all
// three whatever the number is.
func modifyBlock(q *plan.PINQuirks, m PINModify, allIndexes bool) ([]byte, error) {
	// The number decides the length of the message: one that CCID does not define has none.
	if m.NumberMessage > 3 && m.NumberMessage != 0xFF {
		return nil, ifd.Errorf(ifd.Unsupported, "bNumberMessage %d", m.NumberMessage)
	}

	fixCommon(q, &m.Condition, &m.MaxExtraDigit)
	number := messageNumber(q, m.NumberMessage)
	if q.AllIndexes {
		number = 0
		m.MsgIndex = [3]byte{}
	}

	le := binary.LittleEndian
	b := []byte{1, m.TimeOut, m.FormatString, m.PINBlockString, m.PINLengthFormat}
	b = append(b, m.InsertionOffsetOld, m.InsertionOffsetNew)
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

// fixCommon corrects the fields that both structures have. A condition of 0 or above 7 has no
// meaning, and becomes "validation key pressed".
func fixCommon(q *plan.PINQuirks, condition *byte, digits *uint16) {
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

// messageNumber is bNumberMessage as the reader expects it.
func messageNumber(q *plan.PINQuirks, n byte) byte {
	switch {
	case q.Messages >= 0:
		return byte(q.Messages)
	case n == 0 && q.ZeroIsFF:
		return 0xFF
	}
	return n
}

// verifyPIN is FEATURE_VERIFY_PIN_DIRECT. in is a PIN_VERIFY structure.
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
	// The SPR532 inserts the length of the PIN into the APDU, unless this escape tells it not to.
	if q.NoLength && v.PINBlockString&0xF0 == 0 && len(v.Data) == 4 {
		noLength := message.Escape{Data: []byte{0x80, 0x02, 0x00}}
		if _, err := s.command(ctx, noLength, s.reader.plan.Timeout); err != nil {
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

// modifyPIN is FEATURE_MODIFY_PIN_DIRECT. in is a PIN_MODIFY structure.
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
	// Readers of Gemalto without the fix for it read all three indexes, whatever the number says.
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

// checkPINCommand refuses what is no short APDU: a PIN is entered into nothing else.
func checkPINCommand(apdu []byte) error {
	if len(apdu) < 4 || len(apdu) > 5+iso7816.MaxShortNc+1 {
		return ifd.Errorf(ifd.Unsupported, "the command for the PIN has %d bytes", len(apdu))
	}
	return nil
}

// pinTimeout is how long a person may take at the keys. The reader's own limit comes first, so that
// its answer is what ends the operation.
func pinTimeout(timerOut byte) time.Duration {
	return max(90*time.Second, (time.Duration(timerOut)+10)*time.Second)
}

// Status words of a PIN operation that the reader ends itself (PC/SC part 10, section 2.5.6).
var (
	swPINTimeout   = []byte{0x64, 0x00}
	swPINCancelled = []byte{0x64, 0x01}
)

// secure performs a PIN operation. build makes the data of the message; it gets the prologue of the
// T=1 block that the reader is to send, if the host runs T=1, else nil. template is the command
// without the PIN.
func (s *Slot) secure(
	ctx context.Context, timerOut byte, template []byte, build func(*[3]byte) ([]byte, error),
) ([]byte, error) {
	if !s.powered {
		return nil, ifd.Errorf(ifd.Communication, "the card has no power")
	}

	answer, err := s.exchangeSecure(ctx, timerOut, template, build)
	var failed *message.Error

	// Applications know the first two ends as status words, as if the card had answered.
	switch {
	case errors.As(err, &failed) && failed.Code == message.CodePINCancelled:
		return append([]byte(nil), swPINCancelled...), nil
	case errors.As(err, &failed) && failed.Code == message.CodePINTimeout:
		return append([]byte(nil), swPINTimeout...), nil
	case ifd.Absent(err):
		s.noteAbsent()
	}

	s.assess(err)
	if err != nil {
		return nil, err
	}
	// A copy: the answer lies in the link's buffer, which the next command overwrites.
	return append([]byte(nil), answer...), nil
}

// exchangeSecure is secure without what comes of the answer.
func (s *Slot) exchangeSecure(
	ctx context.Context, timerOut byte, template []byte, build func(*[3]byte) ([]byte, error),
) ([]byte, error) {
	if s.t1 != nil {
		return s.secureT1(ctx, timerOut, template, build)
	}

	data, err := build(nil)
	if err != nil {
		return nil, err
	}
	if err := s.checkSize(len(data)); err != nil {
		return nil, err
	}

	a, err := s.command(ctx, message.Secure{Data: data}, pinTimeout(timerOut))
	return a.Data, err
}

// secureT1 is a PIN operation in which the reader makes the block from our prologue. The engine
// gets the command without the PIN. The block that it makes of that must never go to the card,
// which would count it as a wrong PIN: when the engine wants it sent, or sent again, the operation
// has failed.
func (s *Slot) secureT1(
	ctx context.Context, timerOut byte, template []byte, build func(*[3]byte) ([]byte, error),
) ([]byte, error) {
	if err := s.prepareT1(ctx); err != nil {
		return nil, err
	}
	// A command in two blocks cannot be left to the reader, which sends one.
	if len(template) > s.t1.IFSC() {
		return nil, ifd.Errorf(
			ifd.Unsupported, "the command for the PIN is longer than a block of the card")
	}

	step := s.t1.Transmit(template)
	// Cleared only at the good end: on every other way out the two sides may have different
	// numbers.
	s.outOfStep = true
	if step.Done || len(step.Send) < 3 {
		return nil, &ifd.Fault{Code: ifd.Communication, Text: "T=1", Cause: step.Err}
	}

	data, err := build((*[3]byte)(step.Send))
	if err != nil {
		return nil, err
	}
	if err := s.checkSize(len(data)); err != nil {
		return nil, err
	}

	a, err := s.command(ctx, message.Secure{Data: data}, pinTimeout(timerOut))
	if err != nil {
		return nil, err
	}
	// A status word of the reader instead of a block: nothing went to the card.
	if len(a.Data) == 2 {
		return a.Data, nil
	}

	// From here on the engine may exchange blocks with the card itself, except I-blocks: the only
	// one it has is the command without the PIN.
	for step = s.t1.Receive(a.Data); !step.Done; {
		const isNoI = 0x80
		if step.Send[1]&isNoI == 0 {
			return nil, ifd.Errorf(
				ifd.Communication, "the card did not understand the block with the PIN")
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

	s.outOfStep = false
	return step.Response, nil
}

// gemaltoFeatures are the answer of readers of Gemalto to the escape 6A.
type gemaltoFeatures struct {
	condition byte // bEntryValidationCondition that the reader knows
	numberFix bool // bNumberMessage may be less than 3 in a change
}

// askGemalto asks for the features. Readers that do not know the escape have none.
func (r *Reader) askGemalto(ctx context.Context) {
	a, err := r.link.Exchange(ctx, 0, message.Escape{Data: []byte{0x6A}}, r.plan.Timeout)
	if err != nil || len(a.Data) < 9 {
		return
	}
	r.gemalto = &gemaltoFeatures{
		condition: a.Data[3],
		numberFix: a.Data[8]&0x04 != 0,
	}
}

// condition is the bEntryValidationCondition to announce: that of the table of quirks, else the
// reader's, else otherwise.
func (r *Reader) condition(otherwise byte) byte {
	switch {
	case r.plan.PIN.Condition != 0:
		return r.plan.PIN.Condition
	case r.gemalto != nil:
		return r.gemalto.condition
	}
	return otherwise
}

// maskCondition removes from a condition what the reader does not know.
func (r *Reader) maskCondition(c byte) byte {
	if r.gemalto != nil && r.gemalto.condition != 0 {
		return c & r.gemalto.condition
	}
	return c
}
