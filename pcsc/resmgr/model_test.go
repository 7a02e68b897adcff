package resmgr

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// model is what a reader with a card should do, in a few lines: who is connected, who has the lock, whose card was reset.
type model struct {
	clients [2]pcsc.SCardContext
	order   []pcsc.Handle
	handles map[pcsc.Handle]*modelHandle
	owner   *modelHandle
	depth   int
}

type modelHandle struct {
	client           int
	exclusive, reset bool
}

// Limits of the manager that is compared with the model, low enough to be met often.
const (
	modelPerClient = 5
	modelPerReader = 8
)

// of is the number of connections of a client.
func (m *model) of(client int) (n int) {
	for _, h := range m.handles {
		if h.client == client {
			n++
		}
	}
	return n
}

// remove takes a handle away, and the lock with it.
func (m *model) remove(id pcsc.Handle) {
	if m.owner == m.handles[id] {
		m.owner, m.depth = nil, 0
	}
	delete(m.handles, id)
	m.order = slices.DeleteFunc(m.order, func(x pcsc.Handle) bool { return x == id })
}

// release is the end of a client: what it had locked is reset.
func (m *model) release(client int) {
	if m.owner != nil && m.owner.client == client && !m.owner.reset {
		m.resetAll()
	}
	for _, id := range slices.Clone(m.order) {
		if m.handles[id].client == client {
			m.remove(id)
		}
	}
}

func (m *model) exclusive() bool {
	for _, h := range m.handles {
		if h.exclusive {
			return true
		}
	}
	return false
}

func (m *model) locked(h *modelHandle) bool { return m.owner != nil && m.owner != h }

func (m *model) resetAll() {
	for _, h := range m.handles {
		h.reset = true
	}
}

// FuzzSequences compares the manager with the model over sequences of calls; calls that would wait are left out.
func FuzzSequences(f *testing.F) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := make([]byte, 200)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Add([]byte{0, 0, 0, 0, 0, 0, 16, 16, 16, 16, 1, 0, 8, 0xE0, 16, 16, 16, 16}) // the limits, and room again
	f.Add([]byte{0, 16, 2, 0xE0, 4, 6, 3, 7, 4, 8, 0xF0, 8, 0xE0})                 // a client that goes with the lock
	manager := New(Options{PowerDelay: -1, HandlesPerClient: modelPerClient, HandlesPerReader: modelPerReader})
	ctx, cancel := context.WithCancel(context.Background())
	ended := Plug(ctx, manager, pcsctest.InstantDriver{})
	manager.Ready()
	f.Cleanup(func() { cancel(); <-ended; manager.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1000 {
			b = b[:1000]
		}
		m := &model{handles: map[pcsc.Handle]*modelHandle{}}
		for i := range m.clients {
			var err error
			if m.clients[i], err = manager.EstablishContext(pcsc.ScopeSystem); err != nil {
				t.Fatal(err)
			}
			defer func() { manager.ReleaseContext(m.clients[i]) }()
		}
		for i, op := range b {
			got, want := m.step(manager, op)
			if got != want {
				t.Fatalf("step %d (%02X): %v, the model says %v", i, op, got.Name(), want.Name())
			}
		}
	})
}

// codeOf is the result of a call.
func codeOf(err error) pcsc.Error {
	if err == nil {
		return pcsc.ErrSuccess
	}
	return err.(pcsc.Error)
}

// first performs the calls of a client: it connects, or goes and another comes in its place.
func (m *model) first(s pcsc.Service, op byte) (got, want pcsc.Error) {
	client := int(op >> 4 & 1)
	if op>>5 == 7 {
		m.release(client)
		err := s.ReleaseContext(m.clients[client])
		if err == nil {
			m.clients[client], err = s.EstablishContext(pcsc.ScopeSystem)
		}
		return codeOf(err), 0
	}
	mode := pcsc.ShareShared
	if op&8 != 0 {
		mode = pcsc.ShareExclusive
	}
	switch {
	case m.exclusive():
		want = pcsc.ErrSharingViolation
	case m.owner != nil:
		return 0, 0 // would wait
	case mode == pcsc.ShareExclusive && len(m.handles) > 0:
		want = pcsc.ErrSharingViolation
	case len(m.handles) >= modelPerReader, m.of(client) >= modelPerClient:
		want = pcsc.ErrNoMemory
	}
	h, _, err := s.Connect(context.Background(), m.clients[client], "R 00 00", mode, pcsc.ProtocolAny)
	if err == nil {
		n := &modelHandle{client: client, exclusive: mode == pcsc.ShareExclusive}
		m.handles[h] = n
		m.order = append(m.order, h)
		if n.exclusive {
			m.owner, m.depth = n, 1
		}
	}
	return codeOf(err), want
}

// step performs one call on both.
func (m *model) step(s pcsc.Service, op byte) (got, want pcsc.Error) {
	if op&7 == 0 || len(m.order) == 0 {
		return m.first(s, op)
	}
	bg := context.Background()
	id := m.order[int(op>>4)%len(m.order)]
	h := m.handles[id]
	d := pcsc.Disposition(op >> 3 & 1) // leave or reset
	switch op & 7 {
	case 1: // disconnect
		if d != pcsc.LeaveCard && m.locked(h) {
			return 0, 0
		}
		m.remove(id)
		if d == pcsc.ResetCard {
			m.resetAll()
		}
		return codeOf(s.Disconnect(bg, id, d)), 0
	case 2: // begin
		switch {
		case h.reset:
			want = pcsc.ErrResetCard
		case m.locked(h):
			return 0, 0
		default:
			m.owner = h
			m.depth++
		}
		return codeOf(s.BeginTransaction(bg, id)), want
	case 3: // end
		switch {
		case h.reset:
			want = pcsc.ErrResetCard
		case m.locked(h):
			want = pcsc.ErrSharingViolation
		case m.depth == 0, h.exclusive && m.depth == 1:
			want = pcsc.ErrNotTransacted
		default:
			if m.depth--; m.depth == 0 {
				m.owner = nil
			}
			if d == pcsc.ResetCard {
				m.resetAll()
			}
		}
		return codeOf(s.EndTransaction(id, d)), want
	case 4, 5: // transmit
		if m.locked(h) {
			want = pcsc.ErrSharingViolation
		} else if h.reset {
			want = pcsc.ErrResetCard
		}
		_, err := s.Transmit(id, pcsc.ProtocolT1, []byte{0, 0, 0, 0}, 300)
		return codeOf(err), want
	case 6: // status
		if m.locked(h) {
			want = pcsc.ErrSharingViolation
		} else if h.reset {
			want = pcsc.ErrResetCard
		}
		_, err := s.Status(id)
		return codeOf(err), want
	}
	// reconnect
	switch {
	case m.locked(h):
		want = pcsc.ErrSharingViolation
	default:
		if d == pcsc.ResetCard {
			m.resetAll()
		}
		h.reset = false
		if h.exclusive {
			h.exclusive = false
			if m.owner == h {
				if m.depth--; m.depth == 0 {
					m.owner = nil
				}
			}
		}
	}
	_, err := s.Reconnect(id, pcsc.ShareShared, pcsc.ProtocolAny, d)
	return codeOf(err), want
}
