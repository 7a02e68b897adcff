//go:build !cgo

package pkcs11

import "os"

// library cannot exist without cgo: openLibrary always fails, so that no method is ever reached.
type library struct{}

func openLibrary(string, bool) (*library, error) { return nil, ErrNoCgo }

func getenv(name string) string { return os.Getenv(name) }

func (*library) initialize(bool) Code                    { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) finalize() Code                          { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) info() (LibraryInfo, Code)               { return LibraryInfo{}, CKR_FUNCTION_NOT_SUPPORTED }
func (*library) slotList([]uint) (uint, Code)            { return 0, CKR_FUNCTION_NOT_SUPPORTED }
func (*library) slotInfo(uint) (slotInfo, Code)          { return slotInfo{}, CKR_FUNCTION_NOT_SUPPORTED }
func (*library) tokenInfo(uint) (tokenInfo, Code)        { return tokenInfo{}, CKR_FUNCTION_NOT_SUPPORTED }
func (*library) mechanismList(uint, []uint) (uint, Code) { return 0, CKR_FUNCTION_NOT_SUPPORTED }
func (*library) openSession(uint, bool) (uint, Code)     { return 0, CKR_FUNCTION_NOT_SUPPORTED }
func (*library) closeSession(uint) Code                  { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) login(uint, uint, []byte) Code           { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) logout(uint) Code                        { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) initPIN(uint, []byte) Code               { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) setPIN(uint, []byte, []byte) Code        { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) findInit(uint, []attribute) Code         { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) find(uint, []uint) (uint, Code)          { return 0, CKR_FUNCTION_NOT_SUPPORTED }
func (*library) findFinal(uint) Code                     { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) signInit(uint, uint, mechanism) Code     { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) sign(uint, []byte, []byte) (uint, Code)  { return 0, CKR_FUNCTION_NOT_SUPPORTED }
func (*library) waitForSlotEvent() Code                  { return CKR_FUNCTION_NOT_SUPPORTED }
func (*library) attributes(uint, uint, []uint, []uint, []uint, []byte) Code {
	return CKR_FUNCTION_NOT_SUPPORTED
}
