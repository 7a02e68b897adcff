//go:build !cgo

package accounts

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// system is the accounts of /etc/passwd.
type system struct{}

// System returns the accounts of /etc/passwd: a program built without cgo cannot ask the name
// services.
func System() Source { return system{} }

// Lookup implements Source.
func (s system) Lookup(name string) (found *Account, err error) {
	err = s.All(func(a Account) bool {
		if a.Name == name {
			found = &a
		}
		return found == nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%q: %w", name, ErrNoAccount)
	}
	return found, err
}

// All implements Source.
func (system) All(yield func(Account) bool) error {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return err
	}
	defer f.Close()

	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxPasswd)
	for lines.Scan() {
		w := strings.Split(lines.Text(), ":")
		// Lines of the compat mode ("+") and broken ones are no accounts.
		if len(w) != 7 {
			continue
		}

		uid, badUID := strconv.ParseUint(w[2], 10, 32)
		gid, badGID := strconv.ParseUint(w[3], 10, 32)
		if badUID != nil || badGID != nil || !usable(w[0]) {
			continue
		}

		account := Account{
			Name:  w[0],
			UID:   uint32(uid),
			GID:   uint32(gid),
			GECOS: w[4],
			Home:  w[5],
			Shell: w[6],
		}
		if !yield(account) {
			return nil
		}
	}
	return lines.Err()
}

// UIDMin implements Source.
func (system) UIDMin() uint32 { return systemUIDMin() }
