package ccid

import (
	"context"
	"encoding/binary"
	"time"

	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
)

// Control codes (PC/SC part 10; SCARD_CTL_CODE of pcsc-lite is 0x42000000 + number).
const (
	codeEscape          = 0x42000000 + 1
	codeFeatures        = 0x42000000 + 3400
	codeFeaturesWindows = 0x00313520 // the same on Windows, for remote desktops
	codeSetNAD          = 0x42000000 + 3600
	codePath            = 0x42000000 + 3601
	codeFeature         = 0x42330000 // + tag
)

// Tags of features (PC/SC part 10, section 2.2).
const (
	tagVerifyPIN     = 0x06
	tagModifyPIN     = 0x07
	tagMCTReader     = 0x08
	tagPINProperties = 0x0A
	tagTLVProperties = 0x12
	tagEscape        = 0x13
)

// escapeTimeout is for commands of an application to the reader itself.
const escapeTimeout = 30 * time.Second

// Control performs a command of the reader: an escape, the request for features, a PIN operation,
// properties. Answers of more than max bytes are an error.
func (s *Slot) Control(ctx context.Context, code uint32, in []byte, max int) ([]byte, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()

	out, err := s.control(ctx, code, in)
	switch {
	case err != nil:
		return nil, err
	case len(out) > max:
		return nil, ifd.Errorf(
			ifd.InsufficientBuffer, "an answer of %d bytes, and room for %d", len(out), max)
	}
	return out, nil
}

// control is Control for a caller that has the reader.
func (s *Slot) control(ctx context.Context, code uint32, in []byte) ([]byte, error) {
	p := s.reader.plan
	switch {
	case code == codeEscape:
		return s.escape(ctx, in)
	case code == codeFeatures, code == codeFeaturesWindows:
		return s.features(), nil
	case code == codeFeature+tagVerifyPIN && p.Verify:
		return s.verifyPIN(ctx, in)
	case code == codeFeature+tagModifyPIN && p.Modify:
		return s.modifyPIN(ctx, in)
	case code == codeFeature+tagPINProperties && (p.Verify || p.Modify):
		return s.pinProperties(), nil
	case code == codeFeature+tagTLVProperties:
		return s.tlvProperties(ctx), nil
	case code == codeFeature+tagMCTReader && p.KobilEscape:
		return s.mctReader(ctx, in)
	case code == codeSetNAD && p.Level == plan.LevelTPDU:
		return s.setNAD(in)
	case code == codePath && s.reader.info.Path != "":
		return append([]byte(s.reader.path()), 0), nil
	}
	return nil, ifd.Errorf(ifd.Unsupported, "control code %08X", code)
}

// features lists the reader's features: tag, length 4, control code with the high byte first.
func (s *Slot) features() []byte {
	p := s.reader.plan
	var out []byte
	add := func(has bool, tag byte, code uint32) {
		if has {
			out = binary.BigEndian.AppendUint32(append(out, tag, 4), code)
		}
	}

	pad := p.Verify || p.Modify
	add(p.Verify, tagVerifyPIN, codeFeature+tagVerifyPIN)
	add(p.Modify, tagModifyPIN, codeFeature+tagModifyPIN)
	add(pad, tagPINProperties, codeFeature+tagPINProperties)
	add(p.KobilEscape, tagMCTReader, codeFeature+tagMCTReader)
	add(true, tagTLVProperties, codeFeature+tagTLVProperties)
	add(s.escapesAllowed(), tagEscape, codeEscape)
	return out
}

// pinProperties is PIN_PROPERTIES_STRUCTURE: wLcdLayout, bEntryValidationCondition, bTimeOut2.
func (s *Slot) pinProperties() []byte {
	out := binary.LittleEndian.AppendUint16(nil, s.reader.plan.Display)
	return append(out, s.reader.condition(0x07), 0)
}

// Tags of the TLV properties (PC/SC part 10, section 2.6.14).
const (
	propDisplay    = 1
	propCondition  = 2
	propTimeout2   = 3
	propCharacters = 4
	propLines      = 5
	propMinPIN     = 6
	propMaxPIN     = 7
	propFirmware   = 8
	propPPDU       = 9
	propMaxAPDU    = 10
	propVendor     = 11
	propProduct    = 12
)

// tlvProperties lists the reader's properties. Numbers have the low byte first (PC/SC part 10,
// section 2.6.14).
func (s *Slot) tlvProperties(ctx context.Context) []byte {
	p, le := s.reader.plan, binary.LittleEndian
	var out []byte
	one := func(tag, value byte) { out = append(out, tag, 1, value) }
	two := func(tag byte, value uint16) { out = le.AppendUint16(append(out, tag, 2), value) }

	two(propDisplay, p.Display)
	if p.Display != 0 {
		two(propCharacters, p.Display&0xFF)
		two(propLines, p.Display>>8)
	}
	one(propTimeout2, 0)

	// Readers of Gemalto answer an escape with their firmware version.
	if s.reader.info.Vendor == vendorGemalto {
		a, err := s.command(ctx, message.Escape{Data: []byte{0x02}}, p.Timeout)
		// From 80 on the length would need another form than one byte.
		if err == nil && len(a.Data) < 0x80 {
			out = append(append(out, propFirmware, byte(len(a.Data))), a.Data...)
		}
	}

	if p.PIN.SizesKnown {
		one(propMinPIN, p.PIN.MinPIN)
		one(propMaxPIN, p.PIN.MaxPIN)
	}
	if c := s.reader.condition(0); c != 0 {
		one(propCondition, c)
	}

	ppdu := byte(0)
	if s.escapesAllowed() {
		ppdu = 1
	}
	one(propPPDU, ppdu)
	two(propVendor, s.reader.info.Vendor)
	two(propProduct, s.reader.info.Product)
	return le.AppendUint32(append(out, propMaxAPDU, 4), maxAPDUData(p))
}

// maxAPDUData is dwMaxAPDUDataSize: 0 means a reader of short APDUs.
func maxAPDUData(p *plan.Plan) uint32 {
	if p.Level == plan.LevelShortAPDU {
		return 0
	}
	return 0x10000
}

// vendorGemalto is the USB number of Gemalto, formerly Gemplus.
const vendorGemalto = 0x08E6

// escapesAllowed reports whether applications may send any escape.
func (s *Slot) escapesAllowed() bool { return s.reader.options.Escapes || s.reader.plan.Escapes }

// escape sends an escape command of an application. Two are harmless and always allowed: the
// firmware version of Gemalto's readers, and the choice of tags of GemProx DU.
func (s *Slot) escape(ctx context.Context, in []byte) ([]byte, error) {
	gemalto := s.reader.info.Vendor == vendorGemalto
	version := gemalto && len(in) == 1 && in[0] == 0x02
	tags := gemalto && len(in) == 6 && string(in[:5]) == "\x52\xF8\x04\x01\x00"
	// Others may rewrite the reader's firmware.
	if !version && !tags && !s.escapesAllowed() {
		return nil, ifd.Errorf(
			ifd.Communication, "escape commands are not allowed (option escapes)")
	}
	if err := s.checkSize(len(in)); err != nil {
		return nil, err
	}

	a, err := s.command(ctx, message.Escape{Data: in}, escapeTimeout)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), a.Data...), nil
}

// mctReader is MCT_READER_DIRECT. Of the commands of MKT it takes only those to the reader itself,
// 20 70 to 74 00 00 00.
func (s *Slot) mctReader(ctx context.Context, in []byte) ([]byte, error) {
	toReader := len(in) == 5 && in[0] == 0x20 && in[1] >= 0x70 && in[1] <= 0x74
	if !toReader || in[2]|in[3]|in[4] != 0 {
		return nil, ifd.Errorf(ifd.Unsupported, "not a command to the reader")
	}

	a, err := s.command(ctx, message.Escape{Data: in}, escapeTimeout)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), a.Data...), nil
}

// setNAD sets or reads the node address of T=1: 3E 00 01 nn answers 3E 00 01 90, 3F 00 00 answers
// 3F 00 02 90 nn. It takes effect with the next SetProtocol.
func (s *Slot) setNAD(in []byte) ([]byte, error) {
	switch {
	case len(in) == 4 && in[0] == 0x3E && in[1] == 0 && in[2] == 1:
		s.nad = in[3]
		return []byte{0x3E, 0, 1, 0x90}, nil
	case len(in) == 3 && in[0] == 0x3F && in[1] == 0 && in[2] == 0:
		return []byte{0x3F, 0, 2, 0x90, s.nad}, nil
	}
	return nil, ifd.Errorf(ifd.Unsupported, "not a command for the NAD")
}
