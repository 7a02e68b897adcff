package pkcs11

import "pam_pkcs11/token"

// Places are slots in the words of a login.
func Places(slots []Slot) []token.Slot {
	list := make([]token.Slot, len(slots))
	for i, s := range slots {
		list[i] = s.place()
	}
	return list
}
