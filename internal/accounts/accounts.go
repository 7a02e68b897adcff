// Package accounts looks users up where the system does: in passwd through the C library, and
// sessions at logind. It decides nothing about them.
package accounts

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Account is one entry of the user database (passwd(5)).
type Account struct {
	Name               string
	UID, GID           uint32
	GECOS, Home, Shell string
}

// Is reports whether two entries are of one account: of the same number and name, under whatever
// name they were found. Accounts that share a number are different ones.
func (a Account) Is(b Account) bool { return a.UID == b.UID && a.Name == b.Name }

// Same reports whether two names are of one account. A name without account, or whose account
// cannot be looked up, is only the same as itself.
func Same(s Source, a, b string) bool {
	if a == b {
		return true
	}

	// The name service may know an account by several names: only its entry says which it is.
	first, err := s.Lookup(a)
	if err != nil {
		return false
	}
	second, err := s.Lookup(b)
	return err == nil && first.Is(*second)
}

// NameOf returns the name of an account in its entry; without account the name itself.
func NameOf(s Source, name string) string {
	if a, err := s.Lookup(name); err == nil {
		return a.Name
	}
	return name
}

// ErrNoAccount is returned when a name has no entry.
var ErrNoAccount = errors.New("no such account")

// Source is a user database.
type Source interface {
	// Lookup returns the entry of a login name, ErrNoAccount when there is none.
	Lookup(name string) (*Account, error)
	// All calls yield for each entry until it returns false.
	All(yield func(Account) bool) error
	// UIDMin is the lowest number of an account of a person (login.defs(5), UID_MIN).
	UIDMin() uint32
}

// Limits of what is read, in octets, and the number where login.defs has none.
const (
	defaultUIDMin = 1000
	maxLoginDefs  = 1 << 20
	maxName       = 256
)

// usable refuses names that the C library would cut or misread.
func usable(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsAny(name, "\x00\n:")
}

// systemUIDMin returns the system's own, read once in a process.
var systemUIDMin = sync.OnceValue(func() uint32 { return readUIDMin("/etc/login.defs") })

// readUIDMin reads UID_MIN from a login.defs; the usual number where it has none.
func readUIDMin(path string) uint32 {
	f, err := os.Open(path)
	if err != nil {
		return defaultUIDMin
	}
	defer f.Close()

	lines := bufio.NewScanner(io.LimitReader(f, maxLoginDefs))
	for lines.Scan() {
		// Cheap and first: nearly all lines are comments.
		if !bytes.Contains(lines.Bytes(), []byte("UID_MIN")) {
			continue
		}
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "UID_MIN" {
			continue
		}
		if n, err := strconv.ParseUint(words[1], 0, 32); err == nil {
			return uint32(n)
		}
	}
	return defaultUIDMin
}

// passwdFile has the accounts of this machine.
const passwdFile = "/etc/passwd"

// maxPasswd bounds what is read of it.
const maxPasswd = 64 << 20

// IsLocal reports whether an account is one of this machine (passwd(5)), rather than a directory's.
// Where the file cannot be read, no account is.
func IsLocal(name string) bool { return isIn(passwdFile, name) }

// isIn reports whether a line of the file begins with a name.
func isIn(path, name string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()

	lines := bufio.NewScanner(io.LimitReader(f, maxPasswd))
	lines.Buffer(nil, maxPasswd) // of a group with thousands of members: what is behind it counts too
	for lines.Scan() {
		// The whole first field is compared: "ann" is not "anna".
		if field, _, found := strings.Cut(lines.Text(), ":"); found && field == name {
			return true
		}
	}
	return false
}

// Static is a user database of a test or a tool. It must not be changed while in use.
type Static struct {
	Accounts []Account
	Min      uint32 // UIDMin; 0 is 1000
}

// Lookup implements Source.
func (s Static) Lookup(name string) (*Account, error) {
	for _, a := range s.Accounts {
		if a.Name == name {
			return &a, nil
		}
	}
	return nil, fmt.Errorf("%q: %w", name, ErrNoAccount)
}

// All implements Source.
func (s Static) All(yield func(Account) bool) error {
	for _, a := range s.Accounts {
		if !yield(a) {
			return nil
		}
	}
	return nil
}

// UIDMin implements Source.
func (s Static) UIDMin() uint32 {
	if s.Min == 0 {
		return defaultUIDMin
	}
	return s.Min
}
