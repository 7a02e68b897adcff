// Package shares has the shares of the places that there are: for programs at the service, and for connections to a
// reader. Root can always come in beside users who take all that they can, and so can the program that asks for a card
// at a login.
package shares

// Places is how many there are, and how they are shared.
type Places struct {
	All     int // for everybody
	PerUser int // for one user who is not root
}

// rootReserve is the part of the places that users leave to root: a tenth.
const rootReserve = 10

// Of says how places are shared out: perUser for one user, or two thirds of what root leaves where it is 0.
func Of(all, perUser int) Places {
	if perUser == 0 {
		perUser = (all - all/rootReserve) * 2 / 3
	}
	return Places{All: all, PerUser: min(max(perUser, 1), all)}
}

// Room reports whether one more fits in for a user, beside taken in all, of which own are the user's and users are not
// root's.
func (p Places) Room(uid uint32, taken, users, own int) bool {
	if uid == 0 {
		return taken < p.All
	}
	return taken < p.All && users < p.forUsers() && own < p.PerUser
}

// forUsers is how many places all users together can have.
func (p Places) forUsers() int { return p.All - p.All/rootReserve }

// Plenty reports whether one more fits in whoever it is for, so that nobody has to count whose the others are.
func (p Places) Plenty(taken int) bool { return taken < min(p.PerUser, p.forUsers()) }

// LoginExtra is how many places more than its user's share there are for the program of a login: at a screen that is
// locked it runs as the user, whose other programs may have taken the whole share.
const LoginExtra = 4

// RoomAtLogin is Room for the program of a login, which may use the last places.
func (p Places) RoomAtLogin(taken, own int) bool { return taken < p.All && own < p.PerUser+LoginExtra }

// Count says how many of the users of places are not root, and how many are one user.
func Count[T any](all func(yield func(T) bool), uidOf func(T) uint32, uid uint32) (users, own int) {
	for one := range all {
		if other := uidOf(one); other != 0 {
			users++
			if other == uid {
				own++
			}
		}
	}
	return users, own
}
