package ccidtest

import (
	"slices"

	"pam_pkcs11/ccid/device"
)

// iccdState is what a card that is its own reader sends next.
type iccdState struct {
	block []byte // for the next DATA_BLOCK request
	sw    []byte // version A: the status word, after that
	rest  []byte // version A: the header, while the host is still to send data
}

// iccd performs the requests of ICCD (USB ICC 1.0, chapters 4 and 6).
func (r *reader) iccd(setup device.Setup, data []byte) ([]byte, error) {
	// The constants are those of CCID messages; two of the numbers mean something else in ICCD.
	s := r.slots[0]
	versionB := r.in.Protocol == device.ProtocolICCDB

	switch request := setup.Request; {
	case request == iccPowerOn && !versionB == setup.In():
		if s.card == nil {
			return nil, device.ErrStall
		}

		atr := s.resetCard()
		if !versionB {
			r.iccdState = iccdState{}
			return atr, nil
		}
		r.iccdState = iccdState{block: append([]byte{0}, atr...)}
		return nil, nil
	case request == iccPowerOff && !setup.In():
		s.powered = false
		return nil, nil
	case request == getSlotStatus && !setup.In():
		// XFR_BLOCK.
		if versionB {
			return nil, r.iccdBlock(setup.Value>>8, data)
		}
		return nil, r.iccdTPDU(data)
	case request == xfrBlock && setup.In():
		// DATA_BLOCK. Version A has the status word apart, for the request after the data.
		block := r.iccdState.block
		r.iccdState.block = r.iccdState.sw
		r.iccdState.sw = nil
		if versionB && block == nil {
			return nil, device.ErrStall
		}
		return block, nil
	case request == 0x81 && setup.In() && versionB:
		return []byte{0, s.icc(), 0}, nil
	case request == 0xA0 && setup.In() && !versionB:
		return []byte{r.iccdStatus()}, nil
	}
	return nil, device.ErrStall
}

// iccdBlock is version B's exchange: that of extended APDUs, with the chain parameter before the
// data.
func (r *reader) iccdBlock(level uint16, data []byte) error {
	chain, out, code := r.slots[0].xfrExtended(level, slices.Clone(data))
	if code != succeeded {
		r.iccdState.block = []byte{0x40, 0x40, byte(code)}
		return nil
	}
	r.iccdState.block = append([]byte{chain}, out...)
	return nil
}

// iccdTPDU is version A's exchange: the first five bytes, then the rest.
func (r *reader) iccdTPDU(data []byte) error {
	s := r.slots[0]
	all := append(r.iccdState.rest, data...)
	if len(all) < 5 || s.card == nil || !s.powered {
		return device.ErrStall
	}

	// The header alone, of a command that brings data: the status then asks for it.
	if len(all) == 5 && all[4] != 0 && s.front.incoming(all[1]) {
		r.iccdState.rest = slices.Clone(all)
		return nil
	}

	r.iccdState.rest = nil
	out, code := s.front.t0.exchange(s.ask, slices.Clone(all))
	if code != succeeded {
		return device.ErrStall
	}

	if n := len(out) - 2; n > 0 {
		r.iccdState.block = out[:n:n]
		r.iccdState.sw = out[n:]
	} else {
		r.iccdState.block = out
	}
	return nil
}

// iccdStatus is version A's status byte.
func (r *reader) iccdStatus() byte {
	switch {
	case r.slots[0].card == nil:
		return 0x80
	case r.iccdState.rest != nil, r.iccdState.sw != nil:
		return 0x10
	case r.iccdState.block != nil:
		return 0x20
	}
	return 0
}
