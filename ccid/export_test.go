package ccid

import "pam_pkcs11/ccid/plan"

// SecureBlocks are the data of both PIN operations, of quirks made from n.
func SecureBlocks(v PINVerify, m PINModify, n uint16) ([]byte, []byte, error) {
	q := &plan.PINQuirks{Messages: int(n&7) - 1, ZeroIsFF: n&8 != 0, AllIndexes: n&16 != 0, SwapDigits: n&32 != 0, Condition: byte(n >> 6 & 3)}
	b, err := modifyBlock(q, m, n&512 != 0)
	return verifyBlock(q, v), b, err
}
