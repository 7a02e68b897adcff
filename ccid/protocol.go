package ccid

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/ifd"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/iso7816"
)

// ParametersT0 are the parameters of T=0 (CCID 1.1, section 6.1.7): bmFindexDindex, bmTCCKST0,
// bGuardTimeT0, bWaitingIntegerT0, bClockStop.
type ParametersT0 struct{ FiDi, TCCKS, GuardTime, WaitingInteger, ClockStop byte }

// Bytes returns the five bytes of SetParameters.
func (p ParametersT0) Bytes() []byte {
	return []byte{p.FiDi, p.TCCKS, p.GuardTime, p.WaitingInteger, p.ClockStop}
}

// ParametersT1 are the parameters of T=1: bmFindexDindex, bmTCCKST1, bGuardTimeT1,
// bmWaitingIntegersT1, bClockStop, bIFSC, bNadValue.
type ParametersT1 struct{ FiDi, TCCKS, GuardTime, WaitingIntegers, ClockStop, IFSC, NAD byte }

// Bytes returns the seven bytes of SetParameters.
func (p ParametersT1) Bytes() []byte {
	return []byte{p.FiDi, p.TCCKS, p.GuardTime, p.WaitingIntegers, p.ClockStop, p.IFSC, p.NAD}
}

// openPGPv1 is the ATR of OpenPGP cards 1 and 2, which take longer to make a key than it allows.
var openPGPv1 = []byte{
	0x3B, 0xFA, 0x13, 0x00, 0xFF, 0x81, 0x31, 0x80, 0x45, 0x00,
	0x31, 0xC1, 0x73, 0xC0, 0x01, 0x00, 0x00, 0x90, 0x00, 0xB1,
}

// openPGPWaiting is BWI 7 and CWI 5.
const openPGPWaiting = 0x75

// cardTimeoutCap bounds the wait for an answer that a card's ATR asks for, without extensions: a
// card could ask for hours.
const cardTimeoutCap = 60 * time.Second

// SetProtocol prepares the card for protocol 1 (T=0) or 2 (T=1): PPS, parameters, IFSD.
func (s *Slot) SetProtocol(ctx context.Context, protocol uint32) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()

	err = s.setProtocol(ctx, protocol)
	s.assess(err)
	if ifd.Absent(err) {
		s.noteAbsent()
	}
	return err
}

// setProtocol is SetProtocol for a caller that has the reader.
func (s *Slot) setProtocol(ctx context.Context, protocol uint32) error {
	p := s.reader.plan
	t := iso7816.ProtocolT0
	if protocol == pcscT1 {
		t = iso7816.ProtocolT1
	}

	unknown := protocol != pcscT0 && protocol != pcscT1
	switch {
	case unknown, t == iso7816.ProtocolT0 && !p.T0, t == iso7816.ProtocolT1 && !p.T1:
		return ifd.Errorf(
			ifd.ProtocolNotSupported, "the reader does not support protocol %d", protocol)
	case !s.powered:
		return ifd.Errorf(ifd.Communication, "the card has no power")
	case s.card == nil:
		return ifd.Errorf(ifd.ProtocolNotSupported, "the ATR cannot be read")
	}

	// No protocol is set until card and reader have agreed on it.
	s.protocol = 0
	s.t1 = nil
	s.t0 = nil
	s.outOfStep = false

	fidi, err := s.agree(ctx, t, fastest)
	var refused *rateRefused
	if errors.As(err, &refused) {
		// The card works at the new rate already, the reader does not: only a reset brings the card
		// back to the default rate.
		s.reader.log.Info("the reader refuses the rate, going on at the default rate",
			"slot", s.index, "err", err)
		if _, err = s.powerUp(ctx); err == nil {
			fidi, err = s.agree(ctx, t, iso7816.DefaultFiDi)
		}
	}
	if err != nil {
		return err
	}

	s.timeout = s.cardTimeout(t, fidi)
	s.protocol = protocol
	return s.startEngine(ctx, t)
}

// fastest stands for the fastest rate that card and reader have in common. No card has this value in
// TA1: Di 0 is reserved.
const fastest = 0

// rateRefused is a reader that does not take the rate that was agreed with the card.
type rateRefused struct{ cause error }

func (r *rateRefused) Error() string { return "the rate is refused: " + r.cause.Error() }
func (r *rateRefused) Unwrap() error { return r.cause }

// agree makes card and reader work with the same parameters, at a rate as in TA1 or the fastest,
// and returns the rate. A card that refuses a PPS continues without one if its first protocol is
// wanted. The error is a *rateRefused where a slower rate may help.
func (s *Slot) agree(ctx context.Context, t iso7816.Protocol, rate byte) (byte, error) {
	fidi, err := s.negotiate(ctx, t, rate)
	var refused *ifd.Fault
	ptsFailed := errors.As(err, &refused) && refused.Code == ifd.PTSFailure
	if ptsFailed && t == s.card.DefaultProtocol() {
		// After an unsuccessful PPS the card has to be reset (ISO/IEC 7816-3, clause 9); then it
		// uses its first protocol at the default rate, which needs no PPS.
		s.reader.log.Info("the card refuses a PPS, going on without", "slot", s.index, "err", err)
		fidi = iso7816.DefaultFiDi
		_, err = s.powerUp(ctx)
	}

	if err != nil || !s.reader.plan.Parameters {
		return fidi, err
	}
	return s.setParameters(ctx, t, fidi)
}

// startEngine makes the engine of the protocol where the host has to run it, and tells a T=1 card
// our IFSD.
func (s *Slot) startEngine(ctx context.Context, t iso7816.Protocol) error {
	p := s.reader.plan
	// From APDU level on, and on ICCD, the reader runs the protocol.
	if p.Level > plan.LevelTPDU || p.Link != device.ProtocolCCID {
		return nil
	}

	if t == iso7816.ProtocolT0 {
		s.t0 = iso7816.NewT0()
		return nil
	}

	edc := s.card.EDC()
	// For the information field of a block: the reader takes a whole block in one message.
	room := p.MaxMessage - message.HeaderLength - 3 - edc.Size()
	if p.Oversize {
		room = plan.LargestIFSD
	}

	ifsd := min(p.MaxIFSD, room)
	c := iso7816.T1Config{
		NAD:  s.nad,
		IFSC: min(s.card.IFSC(), room),
		EDC:  edc,
	}
	// A reader that negotiates has told the card already.
	if p.IFSD == plan.ByReader {
		c.IFSD = ifsd
	}

	s.t1 = iso7816.NewT1(c)
	if p.IFSD != plan.ByHost {
		return nil
	}

	// Some cards do not take S(IFS) and work all the same; a card that does not answer at all is an
	// error.
	s.cardAnswered = false
	_, err := s.runT1(ctx, s.t1.NegotiateIFS(ifsd))
	if errors.Is(err, iso7816.ErrT1IFS) && s.cardAnswered {
		s.reader.log.Info("the card does not take our IFSD, going on with 32 bytes",
			"slot", s.index)
		return nil
	}
	return err
}

// negotiate agrees on a rate with the card where that is the host's task, and returns it as in TA1.
func (s *Slot) negotiate(
	ctx context.Context, t iso7816.Protocol, rate byte,
) (fidi byte, err error) {
	p, card := s.reader.plan, s.card
	specific, implicit, isSpecific := card.SpecificMode()

	switch {
	case isSpecific && specific != t:
		return 0, ifd.Errorf(
			ifd.ProtocolNotSupported, "the card is in specific mode and speaks %v only", specific)
	case !card.Offers(t):
		return 0, ifd.Errorf(ifd.ProtocolNotSupported, "the card does not speak %v", t)
	case p.FirstProtocol && t != card.DefaultProtocol():
		return 0, ifd.Errorf(
			ifd.ProtocolNotSupported,
			"with this reader the card can speak %v only", card.DefaultProtocol())
	case p.PPS == plan.ByNobody, p.FirstProtocol, p.PPS == plan.ByReader && !p.Parameters:
		// Nothing to agree on: the reader has done it by itself, and by TA1.
		return card.FiDi(), nil
	}

	// In specific mode the card has its rate, whatever was asked for.
	fidi = rate
	if rate == fastest || isSpecific {
		fidi, err = s.chooseRate(isSpecific)
	}
	if err != nil {
		return 0, err
	}

	// A card that is to keep its first protocol and the default rate needs no PPS, and one in
	// specific mode takes none (ISO/IEC 7816-3, 6.3.1).
	changes := t != card.DefaultProtocol() || fidi != iso7816.DefaultFiDi
	if p.PPS == plan.ByHost && !isSpecific && changes {
		return s.pps(ctx, t, fidi)
	}

	if implicit {
		return 0, ifd.Errorf(
			ifd.Communication, "the card works with parameters that it does not name")
	}
	return fidi, nil
}

// slowestTA1 and fastestTA1 bound the rates that are tried in place of one that the reader does not
// have.
const (
	slowestTA1 = 0x94
	fastestTA1 = 0x97
)

// chooseRate is the fastest rate that card and reader have in common, as in TA1. specific: the card
// has only the one that it names.
func (s *Slot) chooseRate(specific bool) (byte, error) {
	hi, lo, ok := s.card.TA1()
	if !ok {
		return iso7816.DefaultFiDi, nil
	}

	fidi := hi<<4 | lo
	known, limit := s.reader.plan.Rates(s.index)
	if known == nil {
		known = s.reader.rates
	}

	rate := s.rate(fidi)
	standard := s.rate(iso7816.DefaultFiDi)
	switch {
	case rate <= standard && !specific:
		return iso7816.DefaultFiDi, nil
	case rate <= limit+2 && hasRate(known, rate):
		// Descriptors round the greatest rate, so that the exact one may be a little above it.
		return fidi, nil
	case specific && known != nil && !hasRate(known, rate):
		return 0, ifd.Errorf(
			ifd.Communication, "the card works at %d bit/s only, which the reader has not", rate)
	case specific:
		// Without a list the reader may do more than its maximum, and the card has no other rate.
		return fidi, nil
	case fidi <= fastestTA1:
		// The card takes any rate between the default and its own (ISO/IEC 7816-3, clause 9):
		// here a smaller Di with the same Fi.
		for fidi--; fidi >= slowestTA1; fidi-- {
			if rate := s.rate(fidi); rate <= limit+2 && hasRate(known, rate) {
				return fidi, nil
			}
		}
	}
	return iso7816.DefaultFiDi, nil
}

// rate returns bits per second at the reader's clock.
func (s *Slot) rate(fidi byte) int {
	f, d := iso7816.FiDi(fidi)
	return int(int64(s.reader.plan.Clock) * 1000 * int64(d) / int64(f))
}

// hasRate reports whether a list has a rate, give or take a rounding. No list has all.
func hasRate(list []uint32, rate int) bool {
	return list == nil || slices.ContainsFunc(list, func(r uint32) bool {
		return int(r) >= rate-1 && int(r) <= rate+1
	})
}

// pps asks the card for protocol and rate.
func (s *Slot) pps(ctx context.Context, t iso7816.Protocol, fidi byte) (byte, error) {
	// PPS1 for the default rate would be one more thing for a card to refuse.
	asked := fidi
	if asked == iso7816.DefaultFiDi {
		asked = 0
	}

	request := iso7816.PPSRequest(t, asked)
	answer, err := s.ppsExchange(ctx, request)
	if err != nil {
		if ifd.Absent(err) || device.IsGone(err) {
			return 0, err
		}
		return 0, &ifd.Fault{Code: ifd.PTSFailure, Text: "PPS", Cause: err}
	}

	got, err := iso7816.CheckPPS(request, answer)
	if err != nil {
		return 0, &ifd.Fault{Code: ifd.PTSFailure, Text: "PPS", Cause: err}
	}
	return got, nil
}

// ppsExchange sends a PPS request. On character level its answer is read in two parts: the second
// byte says how long it is.
func (s *Slot) ppsExchange(ctx context.Context, request []byte) ([]byte, error) {
	timeout := s.reader.plan.Timeout
	if s.reader.plan.Level != plan.LevelCharacter {
		a, err := s.block(ctx, message.XfrBlock{Data: request}, timeout)
		return slices.Clone(a.Data), err
	}

	head, err := s.characters(ctx, request, 2, timeout)
	if err != nil {
		return nil, err
	}
	answer := slices.Clone(head)

	rest, err := s.characters(ctx, nil, iso7816.PPSLength(answer[1])-2, timeout)
	return append(answer, rest...), err
}

// offsetRate is the offset of bmFindexDindex in the message SetParameters: a reader that refuses a
// byte answers its offset as the error code (CCID 1.1, table 6.2-2).
const offsetRate = message.HeaderLength

// setParameters tells the reader what was agreed and returns the rate. A reader that refuses one of
// the bytes keeps its own, and that is no error, except for another rate than the default: reader
// and card must use the same.
func (s *Slot) setParameters(ctx context.Context, t iso7816.Protocol, fidi byte) (byte, error) {
	c := message.SetParameters{Protocol: byte(t), Data: s.parameters(t, fidi)}
	_, err := s.command(ctx, c, s.reader.plan.Timeout)

	// A card in specific mode has no other rate to go to.
	_, _, isSpecific := s.card.SpecificMode()
	canSlow := fidi != iso7816.DefaultFiDi && !isSpecific

	var failed *message.Error
	switch {
	case err == nil:
		return fidi, nil
	case !errors.As(err, &failed) || ifd.Absent(err):
		return 0, err
	case failed.Code == offsetRate && canSlow:
		return 0, &rateRefused{err}
	case failed.Code > 0 && failed.Code < 0x80:
		s.reader.log.Debug("the reader keeps a parameter of its own",
			"slot", s.index, "offset", failed.Code)
		return fidi, nil
	case s.reader.plan.ParametersReset && t == iso7816.ProtocolT1:
		// See the table of quirks: after two resets these readers go on at the rate of the ATR.
		for range 2 {
			if _, err := s.powerUp(ctx); err != nil {
				return 0, err
			}
		}
		return s.card.FiDi(), nil
	case failed.Code != message.CodeUnsupported && canSlow:
		return 0, &rateRefused{err}
	}
	return 0, err
}

// parameters are the bytes of SetParameters. The extra guard time is passed on as the ATR has it,
// 255 included: the reader knows what it means.
func (s *Slot) parameters(t iso7816.Protocol, fidi byte) []byte {
	card := s.card
	guard, _ := card.TC1()
	// Bit 1 of bmTCCKS is the convention, for both protocols.
	var tccks byte
	if card.Inverse {
		tccks = 2
	}

	if t == iso7816.ProtocolT0 {
		p := ParametersT0{
			FiDi:           fidi,
			TCCKS:          tccks,
			GuardTime:      guard,
			WaitingInteger: byte(card.WI()),
		}
		return p.Bytes()
	}

	// Bits 7 to 2 of bmTCCKST1 are 000100, bit 0 is the check sum: 0 LRC, 1 CRC.
	p := ParametersT1{
		FiDi:            fidi,
		TCCKS:           tccks | 0x10,
		GuardTime:       guard,
		WaitingIntegers: byte(card.BWI()<<4 | card.CWI()),
		IFSC:            byte(card.IFSC()),
	}
	if card.EDC() == iso7816.EDCCRC {
		p.TCCKS |= 1
	}
	if bytes.Equal(s.atr, openPGPv1) {
		p.WaitingIntegers = openPGPWaiting
	}
	return p.Bytes()
}

// cardTimeout is how long the answer to one block or TPDU may take, by the times that the ATR
// allows.
func (s *Slot) cardTimeout(t iso7816.Protocol, fidi byte) time.Duration {
	f, d := iso7816.FiDi(fidi)
	r := iso7816.Rate{Clock: s.reader.plan.Clock * 1000, F: f, D: d}
	// Each time is capped by itself, so that the sums below cannot overflow.
	guard := min(s.card.GuardTime(t, r), cardTimeoutCap)

	var wait time.Duration
	if t == iso7816.ProtocolT0 {
		// The longer one of case 3, where header and 256 bytes are sent, and case 2, where the card
		// sends 256 bytes at its own pace.
		wwt := min(s.card.WWT(r), cardTimeoutCap)
		wait = max(261*guard+6*wwt, 5*guard+260*wwt)
	} else {
		// A longest block sent, the wait for the answer, and a longest block of answer.
		bwt := min(s.card.BWT(r), cardTimeoutCap)
		cwt := min(s.card.CWT(r), cardTimeoutCap)
		if bytes.Equal(s.atr, openPGPv1) {
			bwt *= 8 // BWI 7 in place of 4
		}
		wait = 260*guard + bwt + 260*cwt + time.Second
	}

	wait = max(min(wait, cardTimeoutCap), s.reader.plan.Timeout)
	if t == iso7816.ProtocolT1 {
		wait += s.reader.plan.ExtraT1
	}
	return wait
}
