package token

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Selector says which slots may be used. Its zero value takes every slot with a token.
type Selector struct {
	SlotNum         int    // 0: any; n: the n-th of the list of slots, from 1
	SlotDescription string // the slot's description begins so; "" and "none": any
	TokenLabel      string // exactly, without padding; "": any
	URI             *URI   // nil: any
}

// Select returns the slots with an initialised token that qualify, in their order. It asks the
// library for slot descriptions (C_GetSlotInfo), and who made it (C_GetInfo), only as far as the
// selection needs them; a slot that does not answer does not qualify.
func (s Selector) Select(slots []Slot) []Slot {
	var list []Slot
	for _, slot := range slots {
		if s.takes(&slot) {
			list = append(list, slot)
		}
	}
	return list
}

func (s Selector) takes(slot *Slot) bool {
	fit, _ := s.Judge(slot)
	return fit == Fits
}

// Fit is why a slot may be used or not.
type Fit int

const (
	Fits       Fit = iota
	Empty          // there is no token
	Blank          // the token is not initialised
	Unreadable     // the token cannot be read
	Another        // the card is of a kind that is none of the module's, or another than is asked for
)

// Judge reports whether a slot qualifies, and in words what it was judged by. It asks the library
// what Select asks.
func (s Selector) Judge(slot *Slot) (fit Fit, why string) {
	switch {
	case errors.Is(slot.Err, ErrForeign):
		return Another, "its card is of another kind: " + slot.Err.Error()
	case errors.Is(slot.Err, ErrSkipped):
		return Another, cmp.Or(s.Excludes(slot), "it was not to be looked at")
	case slot.Err != nil:
		return Unreadable, "its token cannot be read: " + slot.Err.Error()
	case slot.Token == nil:
		return Empty, "it is empty"
	case !slot.Token.Initialized:
		return Blank, fmt.Sprintf("its token %q is not initialised (no CKF_TOKEN_INITIALIZED)", slot.Token.Label)
	// What costs no call comes first: the description and token_uri may have to ask the library.
	case !s.isNumber(slot):
		return Another, s.Excludes(slot)
	// Old configurations have labels with the padding of PKCS#11.
	case s.TokenLabel != "" && slot.Token.Label != strings.TrimRight(s.TokenLabel, " "):
		return Another, fmt.Sprintf("its token is %q, not %q", slot.Token.Label, s.TokenLabel)
	case !s.describes(slot):
		return Another, s.Excludes(slot)
	case s.URI != nil && !s.URI.MatchToken(*slot):
		return Another, fmt.Sprintf("its token %q, serial number %q, of %q, does not match token_uri", slot.Token.Label,
			slot.Token.Serial, slot.Token.Manufacturer)
	}

	return Fits, ""
}

// Excludes tells why a slot does not qualify whatever card is in it; "" where the card decides. It
// asks the library for the description of the slot, where that counts.
func (s Selector) Excludes(slot *Slot) (why string) {
	switch {
	case !s.isNumber(slot):
		return fmt.Sprintf("it is number %d, and slot_num is %d", slot.Index, s.SlotNum)
	case !s.describes(slot):
		return fmt.Sprintf("its description is %q, and slot_description is %q", slot.Description, s.SlotDescription)
	}
	return ""
}

// isNumber reports whether the slot's number is the one that is asked for.
func (s Selector) isNumber(slot *Slot) bool { return s.SlotNum == 0 || slot.Index == s.SlotNum }

// describes reports whether the slot's description begins as asked for.
func (s Selector) describes(slot *Slot) bool {
	if s.SlotDescription == "" || s.SlotDescription == "none" {
		return true
	}
	// Padded again: the prefix in an old configuration may end in the field's blanks.
	return slot.Describe() == nil && strings.HasPrefix(slot.Description+strings.Repeat(" ", 64), s.SlotDescription)
}

// Selectors says which slots of a Module that is made of several may be used: one Selector for
// each, by Slot.Block.
type Selectors []Selector

// Select returns the slots that qualify by the selector of their block, in their order. As
// Selector.Select it may ask the library.
func (s Selectors) Select(slots []Slot) []Slot {
	var list []Slot
	for _, slot := range slots {
		if fit, _ := s.Judge(&slot); fit == Fits {
			list = append(list, slot)
		}
	}
	return list
}

// Judge reports whether a slot qualifies by the selector of its block, as Selector.Judge does.
func (s Selectors) Judge(slot *Slot) (fit Fit, why string) {
	if slot.Block < 0 || slot.Block >= len(s) {
		return Another, "nothing says which slots like it may be used"
	}
	return s[slot.Block].Judge(slot)
}

// Excludes tells why a slot does not qualify whatever card is in it, by the selector of its block,
// as Selector.Excludes does.
func (s Selectors) Excludes(slot *Slot) (why string) {
	if slot.Block < 0 || slot.Block >= len(s) {
		return ""
	}
	return s[slot.Block].Excludes(slot)
}
