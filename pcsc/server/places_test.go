package server

import (
	"testing"

	"pam_pkcs11/pcsc/internal/shares"
	"pam_pkcs11/pcsc/resmgr"
)

// TestPlacesAtTheService: connections of one user leave room for others, and those of all users for root.
func TestPlacesAtTheService(t *testing.T) {
	s := &Server{MaxClients: 20, conns: map[*conn]struct{}{}}
	fill := func(uid uint32) (n int) {
		for ; ; n++ {
			c := &conn{s: s, peer: resmgr.Peer{PID: -1, UID: uid}}
			if !s.fits(shares.Of(s.MaxClients, s.ClientsPerUser), c, len(s.conns), func(*conn) bool { return true }) {
				return n
			}
			s.conns[c] = struct{}{}
		}
	}
	if got := []int{fill(1000), fill(1001), fill(1002), fill(0)}; got[0] != 12 || got[1] != 6 || got[2] != 0 || got[3] != 2 {
		t.Errorf("the users and root have %v places", got)
	}
}
