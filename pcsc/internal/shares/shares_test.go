package shares

import "testing"

// TestShares: what one user, and all users, can take, and what is left then.
func TestShares(t *testing.T) {
	for _, row := range []struct {
		name         string
		all, perUser int
		own          int // places that one user gets
		users        int // places that many users get
	}{
		{name: "as usual", all: 200, own: 120, users: 180},
		{name: "set by the administrator", all: 200, perUser: 30, own: 30, users: 180},
		{name: "all for one", all: 200, perUser: 200, own: 180, users: 180},
		{name: "more than there are", all: 200, perUser: 10000, own: 180, users: 180},
		{name: "few", all: 7, own: 4, users: 7},
		{name: "two", all: 2, own: 1, users: 2},
		{name: "one", all: 1, own: 1, users: 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := Of(row.all, row.perUser)
			own := 0
			for p.Room(1000, own, own, own) {
				own++
			}
			users := 0
			for p.Room(1000+uint32(users), users, users, 0) {
				users++
			}
			if own != row.own || users != row.users {
				t.Errorf("one user has %d, want %d; all have %d, want %d", own, row.own, users, row.users)
			}
			root := users
			for p.Room(0, root, users, 0) {
				root++
			}
			if root != row.all {
				t.Errorf("with root there are %d", root)
			}
		})
	}
}
