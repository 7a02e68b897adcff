package server

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/internal/wire"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// fakeStream reads the same request again and again.
type fakeStream struct {
	request []byte
	answer  []byte
}

func (s *fakeStream) Read(b []byte, _ bool) (int, error) { return copy(b, s.request), nil }
func (s *fakeStream) Write(b []byte) error {
	s.answer = append(s.answer[:0], b...)
	return nil
}
func (s *fakeStream) LimitReads(time.Duration) error { return nil }
func (s *fakeStream) Yield()                         {}
func (s *fakeStream) OnHangup(func()) func()         { return func() {} }
func (s *fakeStream) Close() error                   { return nil }

// TestTransmitAllocatesNothing: the way of an APDU from the socket to the card and back is free of
// allocations.
func TestTransmitAllocatesNothing(t *testing.T) {
	m := resmgr.New(resmgr.Options{})
	ctx, stop := context.WithCancel(t.Context())
	ended := resmgr.Plug(ctx, m, pcsctest.InstantDriver{})
	m.Ready()
	defer func() {
		stop()
		<-ended
		m.Close()
	}()
	m.AwaitReaders(ctx)

	stream := &fakeStream{}
	s := &Server{Manager: m, Logger: slog.New(slog.DiscardHandler)}
	c := newConn(ctx, s, stream, -1, resmgr.Peer{})
	defer c.cancel()
	client, e := m.Establish(ctx, nil)
	if e != pcsc.ErrSuccess {
		t.Fatal(e)
	}
	defer client.Release()
	h, active, e := client.Connect("R 00 00", pcsc.ShareShared, pcsc.ProtocolAny)
	if e != pcsc.ErrSuccess {
		t.Fatal(e)
	}
	c.handles[h.ID()] = h

	message := wire.TransmitMessage{
		Handle:       uint32(h.ID()),
		SendProtocol: uint32(active),
		SendLength:   5,
		RecvLength:   258,
	}
	size := wire.Size[wire.TransmitMessage]()
	stream.request = wire.Append(nil, &wire.Header{Size: uint32(size), Command: wire.CmdTransmit})
	stream.request = append(wire.Append(stream.request, &message), 0, 0xA4, 0, 0, 0)
	n := testing.AllocsPerRun(100, func() {
		if err := c.request(); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
	var answer wire.TransmitMessage
	if err := wire.Decode(&answer, stream.answer[:size]); err != nil || answer.Result != 0 || answer.RecvLength != 2 {
		t.Errorf("answer %+v, %v", answer, err)
	}
}
