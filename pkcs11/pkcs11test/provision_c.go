//go:build cgo

package pkcs11test

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include "../cryptoki.h"

static CK_FUNCTION_LIST *load(const char *path) {
	CK_FUNCTION_LIST *list = NULL;
	CK_RV (*get)(CK_FUNCTION_LIST **);
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!handle || !(get = (CK_RV (*)(CK_FUNCTION_LIST **))dlsym(handle, "C_GetFunctionList"))) return NULL;
	return get(&list) ? NULL : list;
}

static CK_RV initialize(CK_FUNCTION_LIST *l) { return l->C_Initialize(NULL); }
static CK_RV finalize(CK_FUNCTION_LIST *l) { return l->C_Finalize(NULL); }

// blank_slot finds a token that is not initialised.
static CK_RV blank_slot(CK_FUNCTION_LIST *l, CK_ULONG *slot) {
	CK_ULONG slots[256], n = 256, i;
	CK_TOKEN_INFO info;
	CK_RV rv = l->C_GetSlotList(1, slots, &n);
	for (i = 0; !rv && i < n; i++) {
		if ((rv = l->C_GetTokenInfo(slots[i], &info))) return rv;
		if (!(info.flags & 0x400)) { *slot = slots[i]; return 0; }
	}
	return rv ? rv : 0xE0; // CKR_TOKEN_NOT_PRESENT
}

static CK_RV init_token(CK_FUNCTION_LIST *l, CK_ULONG slot, CK_BYTE *pin, CK_ULONG n, CK_BYTE *label) {
	return l->C_InitToken(slot, pin, n, label);
}
static CK_RV open_session(CK_FUNCTION_LIST *l, CK_ULONG slot, CK_ULONG *s) { return l->C_OpenSession(slot, 6, NULL, NULL, s); }
static CK_RV login(CK_FUNCTION_LIST *l, CK_ULONG s, CK_ULONG user, CK_BYTE *pin, CK_ULONG n) { return l->C_Login(s, user, pin, n); }
static CK_RV logout(CK_FUNCTION_LIST *l, CK_ULONG s) { return l->C_Logout(s); }
static CK_RV init_pin(CK_FUNCTION_LIST *l, CK_ULONG s, CK_BYTE *pin, CK_ULONG n) { return l->C_InitPIN(s, pin, n); }

static CK_RV create_object(CK_FUNCTION_LIST *l, CK_ULONG s, CK_ULONG n, const CK_ULONG *type, const CK_ULONG *length, CK_BYTE *block) {
	CK_ATTRIBUTE a[32];
	CK_ULONG object, i;
	if (n > 32) return 7;
	for (i = 0; i < n; i++) {
		a[i].type = type[i];
		a[i].pValue = block;
		a[i].ulValueLen = length[i];
		block += length[i];
	}
	return l->C_CreateObject(s, a, n, &object);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"pam_pkcs11/pkcs11"
)

// provision makes a token in the library's blank slot, in this process: the library must not be in
// use in it.
func provision(library, conf string, t Token) (err error) {
	if err := setenv("SOFTHSM2_CONF", conf); err != nil {
		return err
	}

	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	list := C.load(path)
	if list == nil {
		return fmt.Errorf("%s is not a PKCS#11 library", library)
	}

	if err := check("C_Initialize (is a module still open?)", C.initialize(list)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, check("C_Finalize", C.finalize(list))) }()

	// SoftHSM always shows one token that is not initialised.
	var slot, session C.CK_ULONG
	if err := check("looking for a blank token", C.blank_slot(list, &slot)); err != nil {
		return err
	}

	soPIN := []byte(t.SOPIN)
	pin := []byte(t.PIN)
	label := []byte(fmt.Sprintf("%-32.32s", t.Label)) // padded with blanks, without NUL (PKCS#11 2.40, 5.5)
	steps := []struct {
		name string
		run  func() C.CK_RV
	}{
		{"C_InitToken", func() C.CK_RV { return C.init_token(list, slot, octets(soPIN), C.CK_ULONG(len(soPIN)), octets(label)) }},
		{"C_OpenSession", func() C.CK_RV { return C.open_session(list, slot, &session) }},
		{"C_Login of the security officer", func() C.CK_RV { return C.login(list, session, 0, octets(soPIN), C.CK_ULONG(len(soPIN))) }},
		{"C_InitPIN", func() C.CK_RV { return C.init_pin(list, session, octets(pin), C.CK_ULONG(len(pin))) }},
		{"C_Logout", func() C.CK_RV { return C.logout(list, session) }},
		{"C_Login", func() C.CK_RV { return C.login(list, session, 1, octets(pin), C.CK_ULONG(len(pin))) }},
	}

	// A token whose user PIN was never set has no user who could log in.
	if t.PIN == "" {
		steps = steps[:3]
	}

	for _, s := range steps {
		if err := check(s.name, s.run()); err != nil {
			return err
		}
	}

	for _, o := range t.Objects {
		if err := createAll(list, session, o); err != nil {
			return err
		}
	}

	return nil
}

func createAll(list *C.CK_FUNCTION_LIST, session C.CK_ULONG, o Object) error {
	templates, err := o.templates()
	if err != nil {
		return err
	}
	for _, t := range templates {
		var kinds, lengths []C.CK_ULONG
		var block []byte
		for _, a := range t {
			kinds, lengths = append(kinds, C.CK_ULONG(a.kind)), append(lengths, C.CK_ULONG(len(a.value)))
			block = append(block, a.value...)
		}
		rv := C.create_object(list, session, C.CK_ULONG(len(t)), &kinds[0], &lengths[0], octets(block))
		if err := check("C_CreateObject of "+o.Label, rv); err != nil {
			return err
		}
	}
	return nil
}

func check(what string, rv C.CK_RV) error {
	if rv == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", what, pkcs11.Code(rv))
}

func octets(b []byte) *C.CK_BYTE { return (*C.CK_BYTE)(unsafe.Pointer(unsafe.SliceData(b))) }

func setenv(name, value string) error {
	n, v := C.CString(name), C.CString(value)
	defer C.free(unsafe.Pointer(n))
	defer C.free(unsafe.Pointer(v))
	if r, err := C.setenv(n, v, 1); r != 0 {
		return err
	}
	return nil
}

func finalizeLibrary(library string) error {
	path := C.CString(library)
	defer C.free(unsafe.Pointer(path))
	list := C.load(path)
	if list == nil {
		return fmt.Errorf("%s is not a PKCS#11 library", library)
	}
	return check("C_Finalize", C.finalize(list))
}
