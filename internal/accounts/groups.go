package accounts

import (
	"errors"
	"fmt"
	"slices"
)

// Group is one entry of the group database (group(5)).
type Group struct {
	Name    string
	GID     uint32
	Members []string // names of accounts; accounts whose own group it is need not be among them
}

// ErrNoGroup is returned when a name has no group.
var ErrNoGroup = errors.New("no such group")

// Groups is a group database.
type Groups interface {
	// Group returns the entry of a group's name, ErrNoGroup when there is none. After any other
	// error nobody knows whether there is one.
	Group(name string) (*Group, error)

	// Of returns the numbers of the groups of an account, its own among them. A name service that
	// does not answer is left out without an error (getgrouplist(3)): only Group shows whether it
	// answers.
	Of(a *Account) ([]uint32, error)
}

// Has reports whether an account is a member: by the group's own list, or by its number, which is
// among those of the account's groups (of Groups.Of).
func (g *Group) Has(a *Account, of []uint32) bool {
	return a.GID == g.GID || slices.Contains(of, g.GID) || slices.Contains(g.Members, a.Name)
}

// groupFile has the groups of this machine.
const groupFile = "/etc/group"

// IsLocalGroup reports whether a group is one of this machine (group(5)), rather than a
// directory's.
func IsLocalGroup(name string) bool { return isIn(groupFile, name) }

// StaticGroups is a group database of a test or a tool, by the names of the groups.
type StaticGroups map[string]Group

// Group implements Groups.
func (s StaticGroups) Group(name string) (*Group, error) {
	g, known := s[name]
	if !known {
		return nil, fmt.Errorf("%q: %w", name, ErrNoGroup)
	}
	g.Name = name
	return &g, nil
}

// Of implements Groups.
func (s StaticGroups) Of(a *Account) ([]uint32, error) {
	numbers := []uint32{a.GID}
	for _, g := range s {
		if slices.Contains(g.Members, a.Name) {
			numbers = append(numbers, g.GID)
		}
	}
	return numbers, nil
}
