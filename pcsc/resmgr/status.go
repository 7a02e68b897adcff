package resmgr

import (
	"cmp"
	"slices"

	"pam_pkcs11/pcsc"
)

// ReaderStatus is a reader and the programs that are connected to it.
type ReaderStatus struct {
	Name        string
	State       pcsc.State
	ATR         []byte
	Protocol    pcsc.Protocol
	Busy        bool // a command is at the reader, or it is being powered
	Connections []ConnectionStatus
	Waiting     []ProgramStatus // for the end of a transaction, in the order of the queue
}

// ConnectionStatus is a connection: Mode is "shared", "exclusive", "direct", or "transaction".
type ConnectionStatus struct {
	ProgramStatus
	Mode string
}

// ProgramStatus is a program. PID is 0 for the process of the resource manager itself. Name is what
// the program calls itself.
type ProgramStatus struct {
	PID  int
	UID  uint32
	Name string
}

// ReaderStatus lists the readers by name, with their connections.
func (m *Manager) ReaderStatus() []ReaderStatus {
	m.mu.Lock()
	readers := make([]*reader, 0, len(m.readers))
	for _, r := range m.readers {
		readers = append(readers, r)
	}
	m.mu.Unlock()

	slices.SortFunc(readers, func(a, b *reader) int { return cmp.Compare(a.name, b.name) })
	var all []ReaderStatus
	for _, r := range readers {
		all = append(all, r.status())
	}
	return all
}

// Unusable names the readers that are there and cannot be used now, see pcsc.Complainer.
func (m *Manager) Unusable() []string {
	m.driversMu.Lock()
	drivers := slices.Clone(m.complainer)
	m.driversMu.Unlock()

	var all []string
	for _, d := range drivers {
		all = append(all, d.Unusable()...)
	}
	return all
}

// status is the reader's part of ReaderStatus.
func (r *reader) status() ReaderStatus {
	r.mu.Lock()
	status := ReaderStatus{
		Name:     r.name,
		State:    r.state,
		ATR:      slices.Clone(r.atr),
		Protocol: r.protocol,
		Busy:     r.driver.isHeld(),
	}

	var connected, waiting []*Client
	for _, h := range r.handles {
		connected = append(connected, h.client)
		status.Connections = append(status.Connections, ConnectionStatus{Mode: r.kindLocked(h)})
	}
	for _, w := range r.queue {
		waiting = append(waiting, w.h.client)
	}
	r.mu.Unlock()

	// Without r.mu: the names of programs are read from /proc.
	for i, c := range connected {
		status.Connections[i].ProgramStatus = c.status()
	}
	for _, c := range waiting {
		status.Waiting = append(status.Waiting, c.status())
	}
	return status
}

func (c *Client) status() ProgramStatus {
	if c.peer == nil {
		return ProgramStatus{Name: "this process"}
	}
	return c.peer.Status()
}

// Status is the peer as a part of a status.
func (p Peer) Status() ProgramStatus {
	return ProgramStatus{PID: p.PID, UID: p.UID, Name: p.Program()}
}
