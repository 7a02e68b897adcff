package pcsc

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
			p := share(row.all, row.perUser)
			own := 0
			for p.room(1000, own, own, own) {
				own++
			}
			users := 0
			for p.room(1000+uint32(users), users, users, 0) {
				users++
			}
			if own != row.own || users != row.users {
				t.Errorf("one user has %d, want %d; all have %d, want %d", own, row.own, users, row.users)
			}
			root := users
			for p.room(0, root, users, 0) {
				root++
			}
			if root != row.all {
				t.Errorf("with root there are %d", root)
			}
		})
	}
}

// TestPlacesAtTheService: connections of one user leave room for others, and those of all users for root.
func TestPlacesAtTheService(t *testing.T) {
	s := &Server{MaxClients: 20, conns: map[*conn]struct{}{}}
	fill := func(uid uint32) (n int) {
		for ; ; n++ {
			c := &conn{s: s, peer: Peer{PID: -1, UID: uid}}
			if !s.fits(share(s.MaxClients, s.ClientsPerUser), c, len(s.conns), func(*conn) bool { return true }) {
				return n
			}
			s.conns[c] = struct{}{}
		}
	}
	if got := []int{fill(1000), fill(1001), fill(1002), fill(0)}; got[0] != 12 || got[1] != 6 || got[2] != 0 || got[3] != 2 {
		t.Errorf("the users and root have %v places", got)
	}
}
