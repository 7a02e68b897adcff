//go:build cgo

package accounts

/*
#define _GNU_SOURCE
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>

// group wraps getgrnam_r so that its errno comes back; 0 and *found NULL is "no such group".
static int group(const char *name, struct group *g, char *room, size_t size, struct group **found)
{
	return getgrnam_r(name, g, room, size, found);
}

// member is the i-th name of a group's list; NULL ends it.
static const char *member(struct group *g, size_t i)
{
	return g->gr_mem ? g->gr_mem[i] : NULL;
}
*/
import "C"

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Limits of groups: a group with very many members, and an account in very many groups (NGROUPS_MAX
// of Linux).
const (
	mostGroupRoom = 64 << 20
	mostMembers   = 2_000_000
	firstGroups   = 64
	mostGroups    = 65536
)

// systemGroups is the group database of the C library.
type systemGroups struct{}

// SystemGroups returns the group database of the C library, with all that nsswitch.conf brings to
// it.
func SystemGroups() Groups { return systemGroups{} }

// Group implements Groups (getgrnam_r).
func (systemGroups) Group(name string) (*Group, error) {
	if !usable(name) {
		return nil, fmt.Errorf("%q: %w", name, ErrNoGroup)
	}
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))

	// getgrnam_r cannot say how much room it needs, only that it was too little.
	for room := firstRoom; room <= mostGroupRoom; room *= 4 {
		found, e := groupWith(c, room)
		switch {
		case e == syscall.ERANGE:
			continue
		case e != 0:
			return nil, fmt.Errorf("looking up the group %q: %w", name, e)
		case found == nil:
			return nil, fmt.Errorf("%q: %w", name, ErrNoGroup)
		}
		return found, nil
	}
	return nil, fmt.Errorf("looking up the group %q: entry larger than %d octets", name, mostGroupRoom)
}

// groupWith calls getgrnam_r with room for the texts of the entry; nil where there is no such
// group.
func groupWith(name *C.char, room int) (*Group, syscall.Errno) {
	buffer := C.malloc(C.size_t(room))
	defer C.free(buffer)

	var entry C.struct_group
	var found *C.struct_group
	e := C.group(name, &entry, (*C.char)(buffer), C.size_t(room), &found)
	if e != 0 || found == nil {
		return nil, syscall.Errno(e)
	}

	// The entry points into the buffer, which is freed: everything is copied.
	g := &Group{Name: C.GoString(found.gr_name), GID: uint32(found.gr_gid)}
	for i := range mostMembers {
		m := C.member(found, C.size_t(i))
		if m == nil {
			return g, 0
		}
		g.Members = append(g.Members, C.GoString(m))
	}
	return nil, syscall.E2BIG
}

// Of implements Groups (getgrouplist).
func (systemGroups) Of(a *Account) ([]uint32, error) {
	if !usable(a.Name) {
		return nil, fmt.Errorf("%q: %w", a.Name, ErrNoAccount)
	}
	c := C.CString(a.Name)
	defer C.free(unsafe.Pointer(c))

	for room := firstGroups; room <= mostGroups; room *= 4 {
		list := make([]C.gid_t, room)
		n := C.int(room)
		if C.getgrouplist(c, C.gid_t(a.GID), &list[0], &n) < 0 {
			continue // n says how many there are, and may be more at the next call
		}

		var numbers []uint32
		for _, gid := range list[:n] {
			numbers = append(numbers, uint32(gid))
		}
		return numbers, nil
	}
	return nil, fmt.Errorf("%q is in more than %d groups", a.Name, mostGroups)
}
