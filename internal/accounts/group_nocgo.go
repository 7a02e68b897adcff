//go:build !cgo

package accounts

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// systemGroups is the groups of /etc/group.
type systemGroups struct{}

// SystemGroups returns the groups of /etc/group: a program built without cgo cannot ask the name
// services.
func SystemGroups() Groups { return systemGroups{} }

// Group implements Groups.
func (systemGroups) Group(name string) (found *Group, err error) {
	err = eachGroup(func(g Group) {
		if found == nil && g.Name == name {
			found = &g
		}
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%q: %w", name, ErrNoGroup)
	}
	return found, err
}

// Of implements Groups.
func (systemGroups) Of(a *Account) ([]uint32, error) {
	// The account's own group need not list it (group(5)).
	numbers := []uint32{a.GID}
	err := eachGroup(func(g Group) {
		if slices.Contains(g.Members, a.Name) {
			numbers = append(numbers, g.GID)
		}
	})
	return numbers, err
}

// eachGroup reads /etc/group.
func eachGroup(take func(Group)) error {
	f, err := os.Open("/etc/group")
	if err != nil {
		return err
	}
	defer f.Close()

	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20) // of a group with many members
	for lines.Scan() {
		w := strings.Split(lines.Text(), ":")
		// Lines of the compat mode ("+") and broken ones are no groups.
		if len(w) != 4 || !usable(w[0]) {
			continue
		}

		gid, err := strconv.ParseUint(w[2], 10, 32)
		if err != nil {
			continue
		}

		take(Group{
			Name:    w[0],
			GID:     uint32(gid),
			Members: strings.FieldsFunc(w[3], func(r rune) bool { return r == ',' }),
		})
	}
	return lines.Err()
}
