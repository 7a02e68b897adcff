package resmgr

import (
	"context"
	"errors"
	"time"

	"pam_pkcs11/pcsc"
)

// pollInterval is how often a slot is asked that cannot notify.
const pollInterval = 400 * time.Millisecond

// watchSlot follows the card movements of a slot until the reader is given up. ready is called
// after the first look at the slot, when the card's ATR is known.
func (r *reader) watchSlot(ready func()) {
	defer close(r.done)
	r.checkPresence()
	ready()

	events := r.slot.Events()
	if events == nil {
		r.poll()
		return
	}

	for {
		var again <-chan time.Time
		// A reader that could not say what is in it may have no movement to report later.
		if r.presenceUnknown() {
			again = time.After(pollInterval)
		}

		select {
		case <-r.ctx.Done():
			return
		case <-again:
			r.checkPresence()
		case present, open := <-events:
			if !open {
				return
			}
			if present {
				r.cardIn()
			} else {
				r.cardLost()
			}
		}
	}
}

// presenceUnknown reports whether the reader could not say whether a card is there.
func (r *reader) presenceUnknown() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state&pcsc.Unknown != 0
}

// poll asks the slot every pollInterval. A slot that is busy with a command is left out: if the
// card has gone, the command fails.
func (r *reader) poll() {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()

	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
			r.checkPresence()
		}
	}
}

// checkPresence asks the slot whether a card is there, and acts on a difference.
func (r *reader) checkPresence() {
	if !r.driver.TryLock() {
		return
	}
	present, err := r.slot.Present(r.ctx)
	r.driver.Unlock()

	r.mu.Lock()
	was := r.state
	r.mu.Unlock()

	switch {
	case err != nil && driverCode(err) == pcsc.ErrorCodeNotPresent:
		r.cardLost()
	case err != nil && was&pcsc.Unknown == 0:
		r.log().Warn("the reader does not say whether a card is there", "err", err)
		r.removed(pcsc.Unknown)
	case err != nil:
		// It was logged the first time.
	case present:
		r.cardIn()
	default:
		r.cardLost()
	}
}

// cardIn powers a new card up and publishes it with its ATR, in one step. It does nothing for a card
// that is known already.
func (r *reader) cardIn() {
	r.driver.Lock()
	defer r.driver.Unlock()

	r.mu.Lock()
	known := r.state&pcsc.Present != 0 || r.gone
	lost := r.state&pcsc.Unknown != 0
	r.mu.Unlock()

	if known {
		return
	}
	// What is in it now may be another card than before.
	if lost {
		r.removed(pcsc.Absent)
	}

	atr, err := r.slot.PowerUp(r.ctx)
	// Taken out again before anybody has seen it: there is nothing to publish.
	if err != nil && driverCode(err) == pcsc.ErrorCodeNotPresent {
		return
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.counter++
	if err != nil || !plausibleATR(atr) {
		r.log().Info("the card does not answer", "err", err)
		r.setMute()
	} else {
		r.setPowered(atr)
	}

	r.publish()
	r.restartIdle()
}

// cardLost publishes a removal.
func (r *reader) cardLost() { r.removed(pcsc.Absent) }

// removed sets the state after a removal: the card has gone (Absent), or nobody knows (Unknown).
func (r *reader) removed(state pcsc.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone || r.state == state {
		return
	}

	if r.state&pcsc.Present != 0 {
		r.setEvent(pcsc.ErrRemovedCard)
	}
	// Counted when a reader answers again, too: the card may have been exchanged meanwhile.
	if state == pcsc.Absent {
		r.counter++
	}

	r.state = state
	r.atr = nil
	r.powered = false
	r.protocol = pcsc.ProtocolUndefined

	r.unlocked.Clear()
	r.stopIdle()
	// A transaction ends with its card.
	r.free()
	r.publish()
}

// setPowered and setMute set the state after a power action; r.mu is held.
func (r *reader) setPowered(atr []byte) {
	r.state = pcsc.Present | pcsc.Powered | pcsc.Negotiable
	r.atr = append([]byte(nil), atr...)
	r.powered = true
	r.protocol = pcsc.ProtocolUndefined
	r.unlocked.Clear()
}

func (r *reader) setMute() {
	r.state = pcsc.Present | pcsc.Swallowed
	r.atr = nil
	r.powered = false
	r.protocol = pcsc.ProtocolUndefined
	r.unlocked.Clear()
}

func plausibleATR(atr []byte) bool { return len(atr) >= 2 && len(atr) <= pcsc.MaxATR }

// power performs a disposition on the card and sets the event of all handles; r.driver is held. It
// returns success, ErrNoSmartcard or ErrUnresponsiveCard.
func (r *reader) power(d pcsc.Disposition) pcsc.Error {
	r.mu.Lock()
	movement := r.counter
	r.mu.Unlock()

	var atr []byte
	var err error
	switch d {
	case pcsc.LeaveCard:
		return pcsc.ErrSuccess
	case pcsc.ResetCard:
		atr, err = r.slot.Reset(r.ctx)
	default:
		if err = r.slot.PowerDown(r.ctx); err == nil {
			atr, err = r.slot.PowerUp(r.ctx)
		}
	}

	if err == nil && !plausibleATR(atr) {
		err = errors.New("no ATR")
	}

	if err != nil && driverCode(err) == pcsc.ErrorCodeNotPresent {
		r.cardLost()
		return pcsc.ErrNoSmartcard
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	// The card has gone meanwhile, and the handles have the event of that.
	if movement != r.counter || r.state&pcsc.Present == 0 {
		return pcsc.ErrNoSmartcard
	}

	r.setEvent(pcsc.ErrResetCard)
	if err != nil {
		r.log().Info("the card does not answer", "err", err)
		r.setMute()
		r.publish()
		return pcsc.ErrUnresponsiveCard
	}

	r.setPowered(atr)
	r.publish()
	return pcsc.ErrSuccess
}

// powerOff switches the card off at a client's wish (Disconnect with UnpowerCard); r.driver is
// held. The ATR stays published: an empty one would make libpcsclite sleep 400 ms in
// SCardGetStatusChange.
func (r *reader) powerOff() {
	if err := r.slot.PowerDown(r.ctx); err != nil {
		r.logError("power down", err)
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state&pcsc.Present == 0 {
		return
	}

	r.setEvent(pcsc.ErrResetCard)
	r.state = pcsc.Present
	r.powered = false
	r.protocol = pcsc.ProtocolUndefined
	r.unlocked.Clear()
	r.publish()
}

// prepare gets the card ready for a connection that allows protocols: power, then protocol.
// r.driver is held.
func (r *reader) prepare(protocols pcsc.Protocol) pcsc.Error {
	if e := r.revive(); e != pcsc.ErrSuccess {
		return e
	}

	r.mu.Lock()
	state := r.state
	powered := r.powered
	movement := r.counter
	active := r.protocol
	r.mu.Unlock()

	switch {
	case state&pcsc.Unknown != 0:
		return pcsc.ErrReaderUnavailable
	case state&pcsc.Present == 0:
		return pcsc.ErrNoSmartcard
	case !powered:
		atr, err := r.slot.PowerUp(r.ctx)
		if err == nil && !plausibleATR(atr) {
			err = errors.New("no ATR")
		}

		if e := r.poweredUp(movement, atr, err); e != pcsc.ErrSuccess {
			return e
		}
		active = pcsc.ProtocolUndefined
	}

	// A protocol that was agreed on stays until the next reset: PPS comes right behind
	// the ATR (ISO 7816-3, 9).
	if active != pcsc.ProtocolUndefined {
		if active&protocols == 0 && protocols&pcsc.ProtocolAnyOld == 0 {
			return pcsc.ErrProtoMismatch
		}
		return pcsc.ErrSuccess
	}

	r.mu.Lock()
	atr := r.atr
	r.mu.Unlock()

	chosen, e := r.negotiate(atr, protocols)
	if e != pcsc.ErrSuccess {
		return e
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	// The protocol is that of a card which has gone meanwhile.
	if movement != r.counter || r.state&pcsc.Present == 0 {
		return pcsc.ErrNoSmartcard
	}

	r.protocol = chosen
	r.publishSharing()
	return pcsc.ErrSuccess
}

// revive powers a card anew that has stopped, and tells all who are connected
// to it; r.driver is held.
func (r *reader) revive() pcsc.Error {
	r.mu.Lock()
	on := r.powered && r.state&pcsc.Present != 0
	r.mu.Unlock()
	if !on || !r.stopped() {
		return pcsc.ErrSuccess
	}

	r.log().Info("the card has stopped: powering it anew")
	return r.power(pcsc.UnpowerCard)
}

// poweredUp sets the state after an idle card was switched on again.
func (r *reader) poweredUp(movement uint32, atr []byte, err error) pcsc.Error {
	if err != nil && driverCode(err) == pcsc.ErrorCodeNotPresent {
		r.cardLost()
		return pcsc.ErrNoSmartcard
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	// Another card than the one that was switched on.
	if movement != r.counter || r.state&pcsc.Present == 0 {
		return pcsc.ErrNoSmartcard
	}

	// An idle card is published as powered: nobody has to be woken if it is so again.
	before := r.published()
	defer func() {
		after := r.published()
		if after.State != before.State || string(after.ATR) != string(before.ATR) {
			r.publish()
		}
	}()

	if err != nil {
		r.log().Info("the card does not answer", "err", err)
		r.setMute()
		return pcsc.ErrUnpoweredCard
	}
	r.setPowered(atr)
	return pcsc.ErrSuccess
}

// negotiate agrees on a protocol with a card that was just reset; r.driver is held. T=1 is
// preferred; when the reader cannot set the one chosen, the card's first protocol will do if the
// request allows it.
func (r *reader) negotiate(atr []byte, protocols pcsc.Protocol) (pcsc.Protocol, pcsc.Error) {
	offered, first := pcsc.OfferedProtocols(atr)

	wanted := protocols
	if protocols&pcsc.ProtocolAnyOld != 0 {
		wanted |= pcsc.ProtocolAny
	}
	wanted &= offered

	switch {
	case wanted == 0 && protocols&pcsc.ProtocolRaw != 0:
		return pcsc.ProtocolRaw, pcsc.ErrSuccess
	case wanted == 0:
		return 0, pcsc.ErrProtoMismatch
	}

	chosen := pcsc.ProtocolT0
	if wanted&pcsc.ProtocolT1 != 0 {
		chosen = pcsc.ProtocolT1
	}

	err := r.slot.SetProtocol(r.ctx, uint32(chosen))
	if err == nil {
		return chosen, pcsc.ErrSuccess
	}

	r.logError("setting the protocol", err)
	if driverCode(err) == pcsc.ErrorCodeNotPresent {
		r.cardLost()
		return 0, pcsc.ErrNoSmartcard
	}

	if !protocolRefused(err) {
		return 0, pcsc.ErrUnresponsiveCard
	}

	if first&wanted == 0 {
		return 0, pcsc.ErrProtoMismatch
	}
	if first != chosen {
		// A refusal is no failure here: without PPS the card speaks its first protocol anyway.
		err := r.slot.SetProtocol(r.ctx, uint32(first))
		if err != nil && !protocolRefused(err) {
			return 0, pcsc.ErrUnresponsiveCard
		}
	}
	return first, pcsc.ErrSuccess
}

func protocolRefused(err error) bool {
	switch driverCode(err) {
	case pcsc.ErrorCodeProtocolNot, pcsc.ErrorCodeUnsupported, pcsc.ErrorCodeNotSupported:
		return true
	}
	return false
}

// restartIdle arms the timer that switches a card off which nobody uses; r.mu is held.
func (r *reader) restartIdle() {
	unused := r.sharing == 0 && r.powered
	if !unused || r.gone || r.m.options.PowerDelay < 0 {
		return
	}
	if r.idle == nil {
		r.idle = time.AfterFunc(r.m.options.PowerDelay, r.idleOff)
		return
	}
	r.idle.Reset(r.m.options.PowerDelay)
}

func (r *reader) stopIdle() {
	if r.idle != nil {
		r.idle.Stop()
	}
}

// idleOff switches the card off, unless somebody has connected; what is published stays.
func (r *reader) idleOff() {
	r.driver.Lock()
	defer r.driver.Unlock()

	r.mu.Lock()
	// A client may have connected while this waited for the driver.
	off := r.sharing == 0 && r.powered && !r.gone
	if off {
		r.powered = false
		r.protocol = pcsc.ProtocolUndefined
		r.publishSharing()
	}
	r.mu.Unlock()

	if !off {
		return
	}

	if err := r.slot.PowerDown(r.ctx); err != nil && !errors.Is(err, context.Canceled) {
		r.logError("power down", err)
	}
}
