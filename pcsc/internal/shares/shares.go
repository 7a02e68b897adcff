// Package shares divides a number of places among users: for programs at the service, and for
// connections to a reader. Root always finds a place beside users who take all that they can, and
// so does the program that asks for a card at a login.
package shares

// Places is how many there are, and how they are shared.
type Places struct {
	All     int // for everybody
	PerUser int // for one user who is not root
}

// rootReserve is the part of the places that users leave to root: a tenth.
const rootReserve = 10

// Of divides places: perUser for one user, or two thirds of what root leaves where it is 0.
func Of(all, perUser int) Places {
	if perUser == 0 {
		perUser = (all - all/rootReserve) * 2 / 3
	}
	return Places{All: all, PerUser: min(max(perUser, 1), all)}
}

// Room reports whether one more fits in for a user: taken places are in use, users of them by
// others than root, own of them by the user.
func (p Places) Room(uid uint32, taken, users, own int) bool {
	if uid == 0 {
		return taken < p.All
	}
	return taken < p.All && users < p.forUsers() && own < p.PerUser
}

// forUsers is how many places all users together can have.
func (p Places) forUsers() int { return p.All - p.All/rootReserve }

// Plenty reports whether one more fits in whoever it is for. The caller then need not count whose
// the places in use are.
func (p Places) Plenty(taken int) bool { return taken < min(p.PerUser, p.forUsers()) }

// LoginExtra is how many places beyond its user's share the program of a login may have: at a
// locked screen it runs as the user, whose other programs may have taken the whole share.
const LoginExtra = 4

// RoomAtLogin is Room for the program of a login, which may use the last places.
func (p Places) RoomAtLogin(taken, own int) bool {
	return taken < p.All && own < p.PerUser+LoginExtra
}

// Count returns how many users of places are not root, and how many are the user uid.
func Count[T any](all func(yield func(T) bool), uidOf func(T) uint32, uid uint32) (users, own int) {
	for one := range all {
		// Root's are in the total alone: they take nothing of the users' part.
		if other := uidOf(one); other != 0 {
			users++
			if other == uid {
				own++
			}
		}
	}
	return users, own
}
