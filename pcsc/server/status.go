package server

import (
	"cmp"
	"slices"

	"pam_pkcs11/pcsc/resmgr"
)

// ServiceStatus is the state of a Server: the readers, and who uses them.
type ServiceStatus struct {
	Readers []resmgr.ReaderStatus
	// Unusable are readers that are there and cannot be used now, each with the reason.
	Unusable []string
	// Unconnected are programs that have a context, or have not asked for one yet, and no
	// connection to a reader.
	Unconnected []resmgr.ProgramStatus
}

// Status returns the present state. It waits for no reader.
func (s *Server) Status() ServiceStatus {
	status := ServiceStatus{Readers: s.Manager.ReaderStatus(), Unusable: s.Manager.Unusable()}
	connected := map[int]bool{}
	for _, r := range status.Readers {
		for _, c := range r.Connections {
			connected[c.PID] = true
		}
	}

	s.mu.Lock()
	var peers []resmgr.Peer
	for c := range s.conns {
		// A program with several connections is listed once.
		if !connected[c.peer.PID] {
			connected[c.peer.PID] = true
			peers = append(peers, c.peer)
		}
	}
	s.mu.Unlock()

	for _, p := range peers {
		status.Unconnected = append(status.Unconnected, p.Status())
	}

	byPID := func(a, b resmgr.ProgramStatus) int { return cmp.Compare(a.PID, b.PID) }
	slices.SortFunc(status.Unconnected, byPID)
	return status
}
