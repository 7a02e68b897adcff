package pkcs11

import "strings"

// Selector says which slots may be used. Its zero value takes every slot with a token.
type Selector struct {
	SlotNum         int    // 0: any; n: the n-th of the list of slots, from 1
	SlotDescription string // the slot's description begins so; "" and "none": any
	TokenLabel      string // exactly, without padding; "": any
	URI             *URI   // nil: any
}

// Select returns the slots with an initialised token that qualify, in their order. It asks the library for slot
// descriptions (C_GetSlotInfo), and who made it (C_GetInfo), only as far as the selection needs them; a slot that does
// not answer does not qualify.
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
	switch {
	case slot.Err != nil || slot.Token == nil || !slot.Token.Flags.Initialized():
		return false
	case s.SlotNum != 0 && slot.Index != s.SlotNum:
		return false
	case s.TokenLabel != "" && slot.Token.Label != strings.TrimRight(s.TokenLabel, " "):
		return false
	}
	if s.SlotDescription != "" && s.SlotDescription != "none" {
		// Padded again: the prefix in an old configuration may end in the field's blanks.
		if slot.Describe() != nil || !strings.HasPrefix(slot.Description+strings.Repeat(" ", 64), s.SlotDescription) {
			return false
		}
	}
	return s.URI == nil || s.URI.MatchToken(*slot)
}
