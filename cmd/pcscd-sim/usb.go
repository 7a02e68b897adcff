package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/usbtest"
	"pam_pkcs11/pcsc/resmgr"
)

// usbWords are what a FILE says of a reader at a USB bus beyond the words of simulated:
//
//	level character|tpdu|short|extended   how much of ISO 7816-3 the reader does by itself (tpdu)
//	pad yes                               it has a keypad; its level is then tpdu
//	control PATH                          a socket that is made at PATH: what is written there
//	                                      moves the card, types at the keypad and traces the
//	                                      commands, see listen
type usbWords struct {
	level   ccidtest.Level
	pad     bool
	control string
}

// set applies one word.
func (u *usbWords) set(word, value string) (problem string) {
	switch word {
	case "level":
		if !slices.Contains(ccidtest.Levels, ccidtest.Level(value)) {
			return fmt.Sprintf("level is one of %v", ccidtest.Levels)
		}
		u.level = ccidtest.Level(value)
	case "pad":
		if value != "yes" {
			return "pad is yes, or left out"
		}
		u.pad = true
	case "control":
		if value == "" {
			return "control is followed by the path of a socket"
		}
		u.control = value
	default:
		return fmt.Sprintf("unknown word %q", word)
	}
	return ""
}

// profile is the USB device that the words ask for.
func (u usbWords) profile() (ccidtest.Profile, error) {
	if u.pad {
		if u.level != "" && u.level != ccidtest.LevelTPDU {
			return ccidtest.Profile{}, errors.New("a reader with a keypad has the level tpdu")
		}
		return ccidtest.PINPad(), nil
	}

	if u.level == "" {
		u.level = ccidtest.LevelTPDU
	}
	// set has refused unknown levels.
	p, _ := ccidtest.Model(u.level)
	return p, nil
}

// plugUSB starts the driver of USB readers over simulated devices, which argument describes.
func plugUSB(
	ctx context.Context, m *resmgr.Manager, argument string, log *slog.Logger,
) (<-chan error, error) {
	all, err := read(argument)
	if err != nil {
		return nil, err
	}

	b := usbtest.New(log)
	for _, s := range all {
		u := &usbReader{simulated: s, bus: b}
		if err := u.start(ctx); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", argument, s.Product, err)
		}
	}
	return resmgr.Plug(ctx, m, b), nil
}

// usbReader is one simulated device with one slot, and what is done with it from outside.
type usbReader struct {
	*simulated
	bus     *usbtest.Bus
	profile ccidtest.Profile
	card    *tracedCard // nil: there is none

	mu       sync.Mutex       // guards the fields below
	device   *ccidtest.Device // nil: it is unplugged
	inserted bool             // the card is in the reader, even if that is unplugged
	pad      ccidtest.Pad
}

// start plugs the device in, with its card.
func (u *usbReader) start(ctx context.Context) error {
	// A device has one slot and the names in its descriptors; the control socket moves its card.
	slotWords := u.slots != 1 || u.every > 0 || !u.notify
	nameWords := u.Interface != "" || u.Serial != ""
	if slotWords || nameWords {
		return errors.New("slots, every, notify, interface and serial " +
			"are no words of readers at a USB bus")
	}

	var err error
	u.profile, err = u.usb.profile()
	if err != nil {
		return err
	}

	card, err := u.newCard()
	if err != nil {
		return err
	}
	if card != nil {
		u.card = newTracedCard(card)
		u.inserted = true
	}

	u.plugIn()
	if u.usb.control == "" {
		return nil
	}
	return u.listen(ctx)
}

// plugIn plugs a device in that is like the one before: for the bus what was unplugged comes back
// as a new device.
func (u *usbReader) plugIn() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.device != nil {
		return
	}

	u.device = ccidtest.New(u.profile)
	u.habits()
	if u.inserted {
		u.device.Insert(0, 0, u.card)
	}
	u.bus.Plug(u.Product, u.device)
}

// habits makes the device slow, as real readers are, and sets what is typed at
// its keypad; u.mu is held.
func (u *usbReader) habits() {
	u.device.Habits(0, 0, func(h *ccidtest.Habits) {
		h.Slow = true
		h.Pad = u.pad
	})
}

// unplug takes the device away, with the card in it.
func (u *usbReader) unplug() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.device != nil {
		u.bus.Unplug(u.device)
		u.device = nil
	}
}

// move puts the card in, or takes it out.
func (u *usbReader) move(in bool) {
	u.mu.Lock()
	defer u.mu.Unlock()

	if u.card == nil || u.inserted == in {
		return
	}

	u.inserted = in

	// Without a device nothing moves now: plugIn inserts the card if it is in.
	switch {
	case u.device == nil:
	case in:
		u.device.Insert(0, 0, u.card)
	default:
		u.device.Remove(0, 0)
	}
}

// press sets what is typed at the keypad from now on.
func (u *usbReader) press(p ccidtest.Pad) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pad = p
	if u.device != nil {
		u.habits()
	}
}
