//go:build cgo

package accounts

/*
#define _GNU_SOURCE
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>

// lookup wraps getpwnam_r so that its errno comes back; 0 and *found NULL is "no such account".
static int lookup(const char *name, struct passwd *p, char *room, size_t size, struct passwd **found)
{
	int e = getpwnam_r(name, p, room, size, found);
	return e == ENOENT || e == ESRCH || e == EBADF || e == EPERM ? 0 : e;
}
*/
import "C"

import (
	"fmt"
	"sync"
	"syscall"
	"unsafe"
)

// system is the user database of the C library.
type system struct{}

// System returns the user database of the C library, with all that nsswitch.conf brings to it.
func System() Source { return system{} }

// Room for the texts of one entry, in octets.
const (
	firstRoom = 1024
	mostRoom  = 1 << 20
)

// Lookup implements Source (getpwnam_r).
func (system) Lookup(name string) (*Account, error) {
	if !usable(name) {
		return nil, fmt.Errorf("%q: %w", name, ErrNoAccount)
	}
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))

	// getpwnam_r cannot say how much room it needs, only that it was too little.
	for room := firstRoom; room <= mostRoom; room *= 4 {
		account, e := lookupWith(c, room)
		if e == syscall.ERANGE {
			continue
		}

		// Without an error and without an entry the name does not exist; an error must not look
		// like that.
		if e != 0 {
			return nil, fmt.Errorf("looking up %q: %w", name, e)
		}
		if account == nil {
			return nil, fmt.Errorf("%q: %w", name, ErrNoAccount)
		}

		return account, nil
	}
	return nil, fmt.Errorf("looking up %q: entry larger than %d octets", name, mostRoom)
}

// lookupWith calls getpwnam_r with room for the texts of the entry; nil where there is no account.
func lookupWith(name *C.char, room int) (*Account, syscall.Errno) {
	buffer := C.malloc(C.size_t(room))
	defer C.free(buffer)
	var entry C.struct_passwd
	var found *C.struct_passwd
	e := C.lookup(name, &entry, (*C.char)(buffer), C.size_t(room), &found)
	if e != 0 || found == nil {
		return nil, syscall.Errno(e)
	}
	return convert(found), 0
}

// convert copies an entry, which the next call of the library may overwrite.
func convert(p *C.struct_passwd) *Account {
	return &Account{
		Name:  C.GoString(p.pw_name),
		UID:   uint32(p.pw_uid),
		GID:   uint32(p.pw_gid),
		GECOS: C.GoString(p.pw_gecos),
		Home:  C.GoString(p.pw_dir),
		Shell: C.GoString(p.pw_shell),
	}
}

// enumeration is held from setpwent to endpwent: the position of getpwent is that of the whole
// process.
var enumeration sync.Mutex

// maxAccounts ends an enumeration of a directory without end.
const maxAccounts = 10_000_000

// All implements Source (setpwent, getpwent, endpwent).
func (system) All(yield func(Account) bool) error {
	enumeration.Lock()
	defer enumeration.Unlock()
	C.setpwent()
	defer C.endpwent()
	for range maxAccounts {
		p := C.getpwent()
		if p == nil || !yield(*convert(p)) {
			return nil
		}
	}
	return fmt.Errorf("more than %d accounts", maxAccounts)
}

// UIDMin implements Source.
func (system) UIDMin() uint32 { return systemUIDMin() }
