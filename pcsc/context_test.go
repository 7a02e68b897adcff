package pcsc_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
)

// TestCallsWithContext: while another connection has a transaction, each call with a context waits until that ends.
func TestCallsWithContext(t *testing.T) {
	inBothForms(t, settings{}, func(t *testing.T, w *world) {
		w.insert(&pcsctest.EchoCard{})
		holder := w.connect(pcsc.ShareShared)
		cards := map[string]*pcsc.Card{}
		calls := map[string]func(ctx context.Context, c *pcsc.Card) error{
			"transmit": func(ctx context.Context, c *pcsc.Card) error {
				_, err := c.TransmitContext(ctx, []byte{0, 0xA4, 4, 0})
				return err
			},
			"status": func(ctx context.Context, c *pcsc.Card) error {
				_, err := c.StatusContext(ctx)
				return err
			},
			"reconnect": func(ctx context.Context, c *pcsc.Card) error {
				return c.ReconnectContext(ctx, pcsc.ShareShared, pcsc.ProtocolAny, pcsc.LeaveCard)
			},
			"begin":      func(ctx context.Context, c *pcsc.Card) error { return c.BeginTransactionContext(ctx) },
			"disconnect": func(ctx context.Context, c *pcsc.Card) error { return c.DisconnectContext(ctx, pcsc.ResetCard) },
		}
		for name := range calls {
			cards[name] = w.connect(pcsc.ShareShared)
		}
		expect(t, "the holder begins", holder.BeginTransaction(), 0)

		for name, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			soon(t, name, func() { expect(t, name, call(ctx, cards[name]), pcsc.ErrCancelled) })
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		soon(t, "connect", func() {
			_, err := w.establish().ConnectContext(ctx, w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
			expect(t, "connect", err, pcsc.ErrCancelled)
		})
		soon(t, "wait", func() {
			states := w.states()
			states[0].CurrentState = states[0].EventState &^ pcsc.StateChanged
			expect(t, "wait", w.establish().GetStatusChangeContext(ctx, states, -1), pcsc.ErrCancelled)
		})
		expect(t, "the holder ends", holder.EndTransaction(pcsc.LeaveCard), 0)

		// Nothing is begun under a context that has ended, and one that has not changes nothing.
		_, err := holder.TransmitContext(ctx, []byte{0, 0xA4, 4, 0})
		expect(t, "transmit too late", err, pcsc.ErrCancelled)
		_, err = holder.TransmitContext(t.Context(), []byte{0, 0xA4, 4, 0})
		expect(t, "transmit", err, 0)
	})
}

// TestDialRefuses: the error of a dial of one's own is the caller's, and nothing is sent.
func TestDialRefuses(t *testing.T) {
	w := newServerWorld(t, settings{notify: true})
	refusal := errors.New("a daemon of somebody else's")
	dials := 0
	c := pcsc.NewClient(w.socket).WithDial(func() (net.Conn, error) {
		if dials++; dials > 1 {
			return nil, refusal
		}
		return net.Dial("unix", w.socket)
	})
	first, err := pcsc.NewContext(c)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Release()
	if _, err := pcsc.NewContext(c); err != refusal {
		t.Errorf("the second context: %v", err)
	}
	if dials != 2 {
		t.Errorf("%d connections for two contexts", dials)
	}
}
