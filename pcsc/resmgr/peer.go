package resmgr

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// Peer is a process at the other end of the socket (SO_PEERCRED and SO_PEERGROUPS,
// taken when it connected).
type Peer struct {
	PID    int
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
}

// String is the peer as the log names it.
func (p Peer) String() string { return fmt.Sprintf("pid %d uid %d", p.PID, p.UID) }

// LogValue is the peer with the name of its program, which is looked up when it is logged.
func (p Peer) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("pid %d (%s) uid %d", p.PID, p.Program(), p.UID))
}

// Program is the name of the peer's program, which it can choose itself; "?" when it has
// ended, or cannot be seen.
func (p Peer) Program() string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID))
	if err != nil {
		return "?"
	}
	return plain(strings.TrimSuffix(string(comm), "\n"))
}

// loginProgram is the name of the program that speaks to the card at a login,
// as the kernel cuts it.
const (
	loginProgram = "pam_pkcs11_worker"
	commLength   = 15
)

// AtLogin reports whether the peer has the name of the program of a login. Any program can take
// that name, and gains a few places by it.
func (p Peer) AtLogin() bool { return p.Program() == loginProgram[:commLength] }
