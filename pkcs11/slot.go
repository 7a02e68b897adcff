package pkcs11

import (
	"errors"
	"fmt"
)

// Limits on lists of slots and mechanisms. The first is what one call can bring without a second.
const (
	ampleSlots      = 64
	maxSlots        = 1024
	ampleMechanisms = 512
	maxMechanisms   = 4096
)

// Slot is a place for a card.
type Slot struct {
	ID           uint
	Index        int // place in the list of slots, from 1
	TokenPresent bool
	Token        *Token // nil without a token, and when Err is set
	Err          error  // why the token cannot be read; the other slots are not concerned

	// Description and Manufacturer are those of C_GetSlotInfo, printable. To save calls they are
	// asked for only by Describe, by Select when the selection needs them, and for slots with Err.
	Description, Manufacturer string

	module    *Module
	described bool
}

// slotInfo is the library's answer.
type slotInfo struct {
	description, manufacturer string
	tokenPresent              bool // CKF_TOKEN_PRESENT
}

// Slots lists all slots (C_GetSlotList) with the tokens in them (C_GetTokenInfo). A slot whose
// token cannot be read has Err; the error that is returned is of the list itself.
func (m *Module) Slots() ([]Slot, error) {
	ids, err := m.slotList()
	if err != nil {
		return nil, err
	}

	slots := make([]Slot, len(ids))
	for i, id := range ids {
		slots[i] = Slot{ID: id, Index: i + 1, module: m}
		if err := m.look(&slots[i]); err != nil {
			return nil, err
		}
	}
	return slots, nil
}

// look reads the token of one slot. Only what concerns the whole library is returned.
func (m *Module) look(s *Slot) error {
	token, err := m.RefreshToken(s.ID)
	switch {
	case err == nil:
		s.TokenPresent = true
		s.Token = token
	case errors.Is(err, CKR_TOKEN_NOT_PRESENT), errors.Is(err, CKR_DEVICE_REMOVED):
		// An empty reader, or a card that was taken out just now.
	case errors.Is(err, ErrClosed), errors.Is(err, ErrBusy), errors.Is(err, CKR_CRYPTOKI_NOT_INITIALIZED):
		return err
	default:
		s.Err = err
		s.TokenPresent = !errors.Is(err, CKR_SLOT_ID_INVALID)

		// Some libraries say of an empty reader in another way that it has no token.
		if i, infoErr := s.info(); infoErr == nil && !i.tokenPresent {
			s.Err = nil
			s.TokenPresent = false
		}
	}
	return nil
}

// Describe fills Description and Manufacturer (C_GetSlotInfo), once.
func (s *Slot) Describe() error {
	if s.described || s.module == nil {
		return nil
	}
	_, err := s.info()
	return err
}

func (s *Slot) info() (slotInfo, error) {
	var i slotInfo
	err := s.module.call("C_GetSlotInfo", func() (code Code) { i, code = s.module.lib.slotInfo(s.ID); return code })
	if err == nil {
		s.Description = text(i.description)
		s.Manufacturer = text(i.manufacturer)
		s.described = true
	}
	return i, err
}

// slotList asks for the identifiers. From the second time on it first asks for the count alone, on
// which libraries look for readers that were plugged in (PKCS#11 2.40, section 5.5).
func (m *Module) slotList() ([]uint, error) {
	if m.listed {
		if err := m.call("C_GetSlotList", func() Code { _, code := m.lib.slotList(nil); return code }); err != nil {
			return nil, err
		}
	}

	m.listed = true
	return m.list("C_GetSlotList", ampleSlots, maxSlots, m.lib.slotList)
}

// list asks for a list into an ample buffer, and once more into one of the announced size when that
// was too small.
func (m *Module) list(name string, ample, limit uint, ask func([]uint) (uint, Code)) ([]uint, error) {
	for {
		out := make([]uint, ample)
		var n uint

		err := m.call(name, func() (code Code) { n, code = ask(out); return code })

		switch {
		case err == nil && n <= ample:
			return out[:n], nil
		case err == nil:
			return nil, &LieError{name, fmt.Sprintf("%d entries in room for %d", n, ample)}
		// The library's own count tells how much room it wants, and is its word only: it is
		// bounded.
		case !errors.Is(err, CKR_BUFFER_TOO_SMALL):
			return nil, err
		case n > limit:
			return nil, &LieError{name, fmt.Sprintf("%d entries, more than %d", n, limit)}
		case n <= ample:
			return nil, &LieError{name, fmt.Sprintf("room for %d is too small for %d", ample, n)}
		}

		// Once more, with no limit above that room: a library that asks for more again ends the
		// loop.
		ample, limit = n, n
	}
}

// Mechanisms lists the mechanisms of the token in a slot (C_GetMechanismList), once per slot and
// module. Signing asks for it only when the usual mechanism for the key is refused, or to choose
// for a key that several would do; who has time before the PIN may ask earlier.
func (m *Module) Mechanisms(slot uint) ([]uint, error) {
	if known, ok := m.mechanisms[slot]; ok {
		return known, nil
	}

	ask := func(out []uint) (uint, Code) { return m.lib.mechanismList(slot, out) }
	list, err := m.list("C_GetMechanismList", ampleMechanisms, maxMechanisms, ask)
	if err != nil {
		return nil, err
	}

	m.mechanisms[slot] = list
	return list, nil
}
