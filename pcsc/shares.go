package pcsc

// Shares of the places that there are: for programs at the service, and for connections to a reader. Root can always
// come in beside users who take all that they can, and so can the program that asks for a card at a login.

// places is how many there are, and how they are shared.
type places struct {
	all     int // for everybody
	perUser int // for one user who is not root
}

// rootReserve is the part of the places that users leave to root: a tenth.
const rootReserve = 10

// share says how places are shared out: perUser for one user, or two thirds of what root leaves where it is 0.
func share(all, perUser int) places {
	if perUser == 0 {
		perUser = (all - all/rootReserve) * 2 / 3
	}
	return places{all: all, perUser: min(max(perUser, 1), all)}
}

// room reports whether one more fits in for a user, beside taken in all, of which own are the user's and users are not
// root's.
func (p places) room(uid uint32, taken, users, own int) bool {
	if uid == 0 {
		return taken < p.all
	}
	return taken < p.all && users < p.forUsers() && own < p.perUser
}

// forUsers is how many places all users together can have.
func (p places) forUsers() int { return p.all - p.all/rootReserve }

// plenty reports whether one more fits in whoever it is for, so that nobody has to count whose the others are.
func (p places) plenty(taken int) bool { return taken < min(p.perUser, p.forUsers()) }

// roomAtLogin is room for the program of a login, which may use the last places.
func (p places) roomAtLogin(taken, own int) bool { return taken < p.all && own < p.perUser+loginExtra }

// count says how many of the users of places are not root, and how many are one user.
func count[T any](all func(yield func(T) bool), uidOf func(T) uint32, uid uint32) (users, own int) {
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

// loginProgram is the name of the program that speaks to the card at a login, as the kernel cuts it. At a screen that is
// locked it runs as the user, whose other programs may have taken the whole share: loginExtra more places are for it.
const (
	loginProgram = "pam_pkcs11_worker"
	commLength   = 15
	loginExtra   = 4
)

// atLogin reports whether the peer says of itself that it is the program of a login. Who lies gets loginExtra places more.
func (p Peer) atLogin() bool { return p.program() == loginProgram[:commLength] }
