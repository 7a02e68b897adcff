package ccid_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/message"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
)

// The resource manager hears from our slots of cards that have stopped.
var _ pcsc.Stopper = (*ccid.Slot)(nil)

// strike is a card that stops at one command, and works again when it is powered.
type strike struct {
	name     string
	features device.Feature
	// then is what the reader answers while the card has stopped, to the command that it stops at too.
	then ccidtest.Fault
	mu   sync.Mutex
	on   bool
}

func (s *strike) fault(x *ccidtest.Exchange) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch message.Type(x.Request[0]) {
	case message.TypePowerOn:
		s.on = false
	case message.TypeXfrBlock:
		if s.on {
			s.then(x)
		}
	}
	return false
}

func (s *strike) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = true
}

// fixedReaders is a driver of readers that are there.
type fixedReaders []*ccid.Slot

func (f fixedReaders) Run(ctx context.Context, attach func(id, product, iface, serial string, slots []*ccid.Slot), _ func(string), settled func()) error {
	attach("1", "R", "", "", f)
	settled()
	<-ctx.Done()
	return ctx.Err()
}

// TestCardThatStopped: a card falls silent while a program keeps its shared connection. The next program that connects
// has a card that works, whatever the reader says of the one that has stopped.
func TestCardThatStopped(t *testing.T) {
	inactive := func(x *ccidtest.Exchange) bool {
		ccidtest.Fails(0xFE)(x)
		ccidtest.Status(0x41, 0xFE)(x)
		return false
	}
	strikes := []*strike{
		{name: "T=1 by the host: the engine is dead", features: tpdu | device.FeatureIFSD, then: ccidtest.Fails(0xFE)},
		{name: "no answer (FE)", features: extended, then: ccidtest.Fails(0xFE)},
		{name: "the card is inactive", features: extended, then: inactive},
		{name: "the protocol is not active (F3)", features: extended, then: ccidtest.Fails(0xF3)},
		{name: "hardware error (FB)", features: extended, then: ccidtest.Fails(0xFB)},
		{name: "parity error (FD)", features: device.FeatureShortAPDU | 0xBE, then: ccidtest.Fails(0xFD)},
	}
	for _, s := range strikes {
		t.Run(s.name, func(t *testing.T) { stopAndConnect(t, s) })
	}
}

func stopAndConnect(t *testing.T, s *strike) {
	d := ccidtest.New(profile(descriptor(s.features)))
	r := open(t, d, 0, plan.Options{})
	m := resmgr.New(resmgr.Options{Logger: testLog(t)})
	ctx, stop := context.WithCancel(t.Context())
	resmgr.Plug(ctx, m, pcsc.Driver[*ccid.Slot](fixedReaders(r.Slots())))
	m.Ready()
	c, err := pcsc.NewContext(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Release()
		stop()
		m.Close()
	})
	d.Inject(s.fault)
	d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT1})

	first := connectSoon(t, c)
	if _, err := first.Transmit(apdu(0, 0)); err != nil {
		t.Fatal(err)
	}
	s.begin()
	if _, err := first.Transmit(apdu(0, 0)); err == nil {
		t.Fatal("the card has not stopped")
	}

	other, err := c.Connect("R 00 00", pcsc.ShareShared, pcsc.ProtocolAny)
	if err != nil {
		t.Fatal("connecting beside the first program:", err)
	}
	if _, err := other.Transmit(apdu(0, 0)); err != nil {
		t.Error("the second program:", err)
	}
	if _, err := first.Transmit(apdu(0, 0)); err != pcsc.ErrResetCard {
		t.Errorf("the first program: %v, want %v", err, pcsc.ErrResetCard)
	}
}

// connectSoon connects to the one reader as soon as its card is there.
func connectSoon(t *testing.T, c *pcsc.Context) *pcsc.Card {
	t.Helper()
	var card *pcsc.Card
	slowtest.Until(t, "the card", func() bool {
		var err error
		card, err = c.Connect("R 00 00", pcsc.ShareShared, pcsc.ProtocolAny)
		return err == nil
	})
	return card
}

// TestOneGlitch: a command that fails, and after which the card works on, costs nobody the card's state.
func TestOneGlitch(t *testing.T) {
	d := ccidtest.New(profile(descriptor(extended)))
	s := open(t, d, 0, plan.Options{}).Slots()[0]
	d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT1})
	ready(t, s, t1)
	d.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Times(1, ccidtest.Fails(0xFE))))
	if _, err := s.Transmit(t.Context(), t1, apdu(0, 0), nil); err == nil || !s.Stopped() {
		t.Errorf("no fault: %v, stopped %v", err, s.Stopped())
	}
	if _, err := s.Transmit(t.Context(), t1, apdu(0, 0), nil); err != nil || s.Stopped() {
		t.Errorf("the card works: %v, stopped %v", err, s.Stopped())
	}
	if _, err := s.Transmit(t.Context(), t1, make([]byte, 70000), nil); err == nil || s.Stopped() {
		t.Errorf("a command that nobody can send says nothing of the card: %v, stopped %v", err, s.Stopped())
	}
}

// TestSilenceStopsTheCard: what a card does with a command that was given up nobody knows.
func TestSilenceStopsTheCard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := ccidtest.New(profile(descriptor(extended)))
		s := open(t, d, 0, plan.Options{}).Slots()[0]
		d.Insert(0, 0, &ccidtest.PatternCard{Bytes: atrT1})
		ready(t, s, t1)
		d.Inject(ccidtest.To(message.TypeXfrBlock, ccidtest.Times(1, ccidtest.Silent)))
		if _, err := s.Transmit(t.Context(), t1, apdu(0, 0), nil); err == nil || !s.Stopped() {
			t.Errorf("%v, stopped %v", err, s.Stopped())
		}
	})
}
