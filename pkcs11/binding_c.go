//go:build cgo

package pkcs11

// The border to C. Most calls go through miekg/pkcs11. Those that carry a PIN, or whose lengths and
// counts come from the library, go through the library's own function list: miekg copies the PIN to
// memory that it does not wipe, turns an empty PIN into NULL, calls functions with an output twice,
// believes any count that it is told, and drops the result of C_WaitForSlotEvent.

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "cryptoki.h"

typedef CK_RV (*get_list)(CK_FUNCTION_LIST **);

// What is bound when it is first called saves a login 16 page faults with SoftHSM and 25 with
// OpenSC, of 1,251 and 1,368, and no time that could be measured. It is done for libraries that
// lack a function which no login calls.
static void *open_library(const char *path, int bind_now) {
	return dlopen(path, (bind_now ? RTLD_NOW : RTLD_LAZY) | RTLD_LOCAL);
}

static CK_RV function_list(void *symbol, CK_FUNCTION_LIST **list) { return ((get_list)symbol)(list); }

// first_missing gives the name of a function that the list lacks, or NULL.
static const char *first_missing(const CK_FUNCTION_LIST *l) {
#define NEEDED(name) if (!l->name) return #name;
	NEEDED(C_Initialize) NEEDED(C_Finalize) NEEDED(C_GetInfo) NEEDED(C_GetSlotList) NEEDED(C_GetSlotInfo)
	NEEDED(C_GetTokenInfo) NEEDED(C_GetMechanismList) NEEDED(C_OpenSession) NEEDED(C_CloseSession) NEEDED(C_Login)
	NEEDED(C_Logout) NEEDED(C_FindObjectsInit) NEEDED(C_FindObjects) NEEDED(C_FindObjectsFinal)
	NEEDED(C_GetAttributeValue) NEEDED(C_SignInit) NEEDED(C_Sign)
	return NULL;
}

static CK_RV get_slot_list(CK_FUNCTION_LIST *l, CK_ULONG *slots, CK_ULONG *n) { return l->C_GetSlotList(0, slots, n); }

static CK_RV get_mechanism_list(CK_FUNCTION_LIST *l, CK_ULONG slot, CK_ULONG *m, CK_ULONG *n) {
	return l->C_GetMechanismList(slot, m, n);
}

static CK_RV find_objects(CK_FUNCTION_LIST *l, CK_ULONG s, CK_ULONG *objects, CK_ULONG max, CK_ULONG *n) {
	return l->C_FindObjects(s, objects, max, n);
}

// get_attributes asks for n attributes, the i-th into capacity[i] bytes, one after the other in
// block.
static CK_RV get_attributes(CK_FUNCTION_LIST *l, CK_ULONG s, CK_ULONG object, CK_ULONG n, const CK_ULONG *type,
		const CK_ULONG *capacity, CK_ULONG *length, CK_BYTE *block) {
	CK_ATTRIBUTE a[8];
	CK_RV rv;
	CK_ULONG i;
	if (n > 8) return 7; // CKR_ARGUMENTS_BAD
	for (i = 0; i < n; i++) {
		a[i].type = type[i];
		a[i].pValue = block;
		a[i].ulValueLen = capacity[i];
		block += capacity[i];
	}
	rv = l->C_GetAttributeValue(s, object, a, n);
	for (i = 0; i < n; i++) length[i] = a[i].ulValueLen;
	return rv;
}

static CK_RV login(CK_FUNCTION_LIST *l, CK_ULONG s, CK_ULONG user, CK_BYTE *pin, CK_ULONG n) {
	return l->C_Login(s, user, pin, n);
}

static CK_RV init_pin(CK_FUNCTION_LIST *l, CK_ULONG s, CK_BYTE *fresh, CK_ULONG n) {
	return l->C_InitPIN ? l->C_InitPIN(s, fresh, n) : 0x54; // CKR_FUNCTION_NOT_SUPPORTED
}

static CK_RV set_pin(CK_FUNCTION_LIST *l, CK_ULONG s, CK_BYTE *old, CK_ULONG n, CK_BYTE *fresh, CK_ULONG m) {
	return l->C_SetPIN ? l->C_SetPIN(s, old, n, fresh, m) : 0x54; // CKR_FUNCTION_NOT_SUPPORTED
}

static CK_RV sign(CK_FUNCTION_LIST *l, CK_ULONG s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *m) {
	return l->C_Sign(s, in, n, out, m);
}

static CK_RV wait_event(CK_FUNCTION_LIST *l, CK_ULONG *slot) {
	return l->C_WaitForSlotEvent ? l->C_WaitForSlotEvent(0, slot, NULL) : 0x54;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"

	"pam_pkcs11/token"
)

// library is a loaded PKCS#11 library.
type library struct {
	list *C.CK_FUNCTION_LIST
	ctx  *pkcs11.Ctx
}

// openLibrary loads the library and gets its function list; nothing of it is initialised. What was
// loaded is never unloaded: libraries with threads or exit handlers crash when they are, and the
// process ends soon.
func openLibrary(path string, bindNow bool) (*library, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))

	now := C.int(0)
	if bindNow {
		now = 1
	}

	// An error that somebody has left is not ours.
	C.dlerror()
	handle := C.open_library(name, now)
	if handle == nil {
		return nil, fmt.Errorf("loading the library: %s", lastError())
	}

	symbolName := C.CString("C_GetFunctionList")
	defer C.free(unsafe.Pointer(symbolName))
	symbol := C.dlsym(handle, symbolName)
	if symbol == nil {
		return nil, fmt.Errorf("not a PKCS#11 library: %s", lastError())
	}

	l := &library{}
	if code := Code(C.function_list(symbol, &l.list)); code != CKR_OK {
		return nil, &Error{"C_GetFunctionList", code}
	}

	if l.list == nil {
		return nil, &LieError{"C_GetFunctionList", "no list"}
	}
	if l.list.version.major < 2 {
		return nil, &LieError{"C_GetFunctionList", fmt.Sprintf("version %d.%d of PKCS#11, older than 2.0", l.list.version.major, l.list.version.minor)}
	}

	// A function that is missing would be called at address 0.
	if missing := C.first_missing(l.list); missing != nil {
		return nil, &LieError{"C_GetFunctionList", "the list lacks " + C.GoString(missing)}
	}

	// miekg loads it again: dlopen gives the same library, and its functions the same list.
	if l.ctx = pkcs11.New(path); l.ctx == nil {
		return nil, errors.New("loading the library a second time")
	}

	return l, nil
}

// lastError returns dlerror's text.
func lastError() string {
	if text := C.dlerror(); text != nil {
		return token.Printable(C.GoString(text))
	}
	return "no reason given"
}

// getenv reads a variable as C libraries see it, "" when there is none.
func getenv(name string) string {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	return C.GoString(C.getenv(n))
}

// codeOf turns miekg's error into a code.
func codeOf(err error) Code {
	var e pkcs11.Error
	switch {
	case err == nil:
		return CKR_OK
	case errors.As(err, &e):
		return Code(e)
	}
	return CKR_GENERAL_ERROR
}

func (l *library) initialize(osLocking bool) Code {
	var flags uint
	if osLocking {
		flags = pkcs11.CKF_OS_LOCKING_OK
	}
	return codeOf(l.ctx.Initialize(pkcs11.InitializeWithFlags(flags)))
}

func (l *library) finalize() Code { return codeOf(l.ctx.Finalize()) }

func (l *library) info() (LibraryInfo, Code) {
	i, err := l.ctx.GetInfo()
	return LibraryInfo{i.ManufacturerID, i.LibraryDescription, i.LibraryVersion.Major, i.LibraryVersion.Minor}, codeOf(err)
}

// slotList fills ids and returns how many slots the library announces, which may be more, or a lie.
// With no ids it only asks for the count, on which the library looks for new readers.
func (l *library) slotList(ids []uint) (uint, Code) {
	n := C.CK_ULONG(len(ids))
	code := C.get_slot_list(l.list, ulongs(ids), &n)
	return uint(n), Code(code)
}

// ulongs gives the address of a list; CK_ULONG is as wide as uint on every Linux.
func ulongs(list []uint) *C.CK_ULONG { return (*C.CK_ULONG)(unsafe.Pointer(unsafe.SliceData(list))) }

func octets(b []byte) *C.CK_BYTE { return (*C.CK_BYTE)(unsafe.Pointer(unsafe.SliceData(b))) }

func (l *library) slotInfo(slot uint) (slotInfo, Code) {
	i, err := l.ctx.GetSlotInfo(slot)
	return slotInfo{i.SlotDescription, i.ManufacturerID, i.Flags&pkcs11.CKF_TOKEN_PRESENT != 0}, codeOf(err)
}

func (l *library) tokenInfo(slot uint) (tokenInfo, Code) {
	i, err := l.ctx.GetTokenInfo(slot)
	return tokenInfo{i.Label, i.ManufacturerID, i.Model, i.SerialNumber, i.Flags, i.MinPinLen, i.MaxPinLen}, codeOf(err)
}

func (l *library) mechanismList(slot uint, list []uint) (uint, Code) {
	n := C.CK_ULONG(len(list))
	code := C.get_mechanism_list(l.list, C.CK_ULONG(slot), ulongs(list), &n)
	return uint(n), Code(code)
}

func (l *library) openSession(slot uint, readWrite bool) (uint, Code) {
	flags := uint(pkcs11.CKF_SERIAL_SESSION)
	if readWrite {
		flags |= pkcs11.CKF_RW_SESSION
	}
	h, err := l.ctx.OpenSession(slot, flags)
	return uint(h), codeOf(err)
}

func (l *library) closeSession(session uint) Code {
	return codeOf(l.ctx.CloseSession(pkcs11.SessionHandle(session)))
}

// login sends the PIN from where it lies. nil is NULL: the reader's own keypad asks.
func (l *library) login(session, user uint, pin []byte) Code {
	return Code(C.login(l.list, C.CK_ULONG(session), C.CK_ULONG(user), octets(pin), C.CK_ULONG(len(pin))))
}

func (l *library) logout(session uint) Code {
	return codeOf(l.ctx.Logout(pkcs11.SessionHandle(session)))
}

func (l *library) initPIN(session uint, fresh []byte) Code {
	return Code(C.init_pin(l.list, C.CK_ULONG(session), octets(fresh), C.CK_ULONG(len(fresh))))
}
func (l *library) setPIN(session uint, old, fresh []byte) Code {
	return Code(C.set_pin(l.list, C.CK_ULONG(session), octets(old), C.CK_ULONG(len(old)), octets(fresh), C.CK_ULONG(len(fresh))))
}

func (l *library) findInit(session uint, template []attribute) Code {
	list := make([]*pkcs11.Attribute, len(template))
	for i, a := range template {
		list[i] = pkcs11.NewAttribute(a.kind, a.value)
	}
	return codeOf(l.ctx.FindObjectsInit(pkcs11.SessionHandle(session), list))
}

// find fills handles and returns the count that the library announces.
func (l *library) find(session uint, handles []uint) (uint, Code) {
	var n C.CK_ULONG
	code := C.find_objects(l.list, C.CK_ULONG(session), ulongs(handles), C.CK_ULONG(len(handles)), &n)
	return uint(n), Code(code)
}

func (l *library) findFinal(session uint) Code {
	return codeOf(l.ctx.FindObjectsFinal(pkcs11.SessionHandle(session)))
}

// attributes asks for up to 8 attributes at once. The i-th value is in the i-th part of block,
// whose sizes are capacity; length gets what the library says, which may be a lie.
func (l *library) attributes(session, object uint, kind, capacity, length []uint, block []byte) Code {
	return Code(C.get_attributes(l.list, C.CK_ULONG(session), C.CK_ULONG(object), C.CK_ULONG(len(kind)), ulongs(kind),
		ulongs(capacity), ulongs(length), octets(block)))
}

func (l *library) signInit(session, key uint, m mechanism) Code {
	var parameter any
	if m.pss {
		parameter = pkcs11.NewPSSParams(pssHashes[m.scheme.Hash], mgf1s[m.scheme.Hash], uint(m.scheme.SaltLength))
	}
	list := []*pkcs11.Mechanism{pkcs11.NewMechanism(m.number, parameter)}
	return codeOf(l.ctx.SignInit(pkcs11.SessionHandle(session), list, pkcs11.ObjectHandle(key)))
}

// sign returns the length that the library announces, which may be more than out has.
func (l *library) sign(session uint, in, out []byte) (uint, Code) {
	n := C.CK_ULONG(len(out))
	code := C.sign(l.list, C.CK_ULONG(session), octets(in), C.CK_ULONG(len(in)), octets(out), &n)
	return uint(n), Code(code)
}

func (l *library) waitForSlotEvent() Code {
	var slot C.CK_ULONG
	return Code(C.wait_event(l.list, &slot))
}
