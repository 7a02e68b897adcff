package simcard

import (
	"time"

	"pam_pkcs11/internal/iso7816"
)

// PINPolicy is when a key wants the PIN; the values are those of Yubico's metadata.
type PINPolicy byte

// PIN policies. The default is that of part 1, table 5: always for 9C, never for 9E, else once.
const (
	PINDefault PINPolicy = iota
	PINNever
	PINOnce
	PINAlways
)

// TouchPolicy is when a key wants to be touched; the values are those of Yubico's metadata.
type TouchPolicy byte

// Touch policies. The default is never; a cached touch is good for 15 seconds.
const (
	TouchDefault TouchPolicy = iota
	TouchNever
	TouchAlways
	TouchCached
)

// touchCache is how long TouchCached remembers a touch, and touchWait how long a key waits for one.
const (
	touchCache = 15 * time.Second
	touchWait  = 15 * time.Second
)

// Policy is what a key wants before it is used.
type Policy struct {
	PIN   PINPolicy
	Touch TouchPolicy
}

// SetPolicy sets what a key wants, whether it is there or comes later.
func (c *Card) SetPolicy(ref KeyRef, p Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policies[ref] = p
}

// policy is what a key wants, with the defaults filled in.
func (c *Card) policy(ref KeyRef) Policy {
	p := c.policies[ref]
	if p.PIN == PINDefault {
		p.PIN = PINOnce
		switch ref {
		case KeySignature:
			p.PIN = PINAlways
		case KeyCardAuth:
			p.PIN = PINNever
		}
	}

	if p.Touch == TouchDefault {
		p.Touch = TouchNever
	}

	return p
}

// permits checks whether a key may be used now. fresh means that nothing came since VERIFY.
func (c *Card) permits(ref KeyRef, fresh bool) iso7816.Status {
	// Behind a contactless reader only the card authentication key is used.
	if c.o.Contactless.strict() && ref != KeyCardAuth {
		return iso7816.StatusSecurity
	}

	switch c.policy(ref).PIN {
	case PINNever:
		return iso7816.StatusOK
	case PINAlways:
		if !fresh {
			return iso7816.StatusSecurity
		}
	}

	if !c.authorised() {
		return iso7816.StatusSecurity
	}

	return iso7816.StatusOK
}

// Touch is a finger on the card. It reports whether a key waited for it: a touch that nothing waits
// for is forgotten.
func (c *Card) Touch() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.touch == nil {
		return false
	}
	close(c.touch)
	c.touch = nil
	return true
}

// Waiting reports whether a key waits to be touched.
func (c *Card) Waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.touch != nil
}

// awaitTouch waits until the card is touched, where the key wants it: by Touch, or by itself after
// Options.TouchAfter. The answer is kept back meanwhile, as YubiKeys keep it back; without a touch
// it is 6982. The caller holds c.mu; it is unlocked during the wait.
func (c *Card) awaitTouch(ref KeyRef) iso7816.Status {
	clock := c.o.Clock
	switch c.policy(ref).Touch {
	case TouchNever:
		return iso7816.StatusOK
	case TouchCached:
		if !c.touched.IsZero() && clock.Now().Sub(c.touched) < touchCache {
			return iso7816.StatusOK
		}
	}

	touch := make(chan struct{})
	c.touch = touch
	lost := c.lost
	since := clock.Now()

	// Touch, Reset and the counters must work meanwhile. c.exchange keeps other commands out.
	c.mu.Unlock()

	var byItself <-chan time.Time
	if c.o.TouchAfter > 0 {
		byItself = clock.After(c.o.TouchAfter)
	}

	touched := false
	select {
	case <-touch:
		touched = true
	case <-byItself:
		touched = true
	case <-clock.After(c.o.TouchWait):
	case <-lost:
	}

	c.mu.Lock()
	c.touch = nil
	c.awaited = clock.Now().Sub(since)

	if !touched {
		return iso7816.StatusSecurity
	}

	c.touched = clock.Now()
	return iso7816.StatusOK
}

// Contactless is what a card does behind a contactless reader.
type Contactless int

// Rules for contactless readers. Cards with contacts, and YubiKey 5 NFC and PivApplet behind any
// reader, do everything.
const (
	Contacts        Contactless = iota
	ContactlessFree             // only what part 1, table 2, lets be read; no PIN; 9E alone signs
	ContactlessHide             // ContactlessFree, and what may not be read is said to be absent
	ContactlessNone             // PIV cannot even be selected (Nitrokey 3)
)

// ATRContactless is what readers make of a card without contacts (PC/SC part 3, section 3.1.3.2.3).
var ATRContactless = []byte{0x3B, 0x80, 0x80, 0x01, 0x01}

// ObjectSMSigner is the certificate of who signed the secure messaging key.
const ObjectSMSigner uint32 = 0x5FC122

// readContactless are the objects that are read without contacts (part 1, table 2).
var readContactless = map[uint32]bool{
	ObjectCHUID:     true,
	ObjectCardAuth:  true,
	ObjectDiscovery: true,
	ObjectSMSigner:  true,
}

func (c Contactless) strict() bool { return c == ContactlessFree || c == ContactlessHide }

// refuses reports whether commands about PINs are refused, VERIFY without data among them.
func (c Contactless) refuses() bool { return c.strict() }

// read checks whether an object may be read.
func (c Contactless) read(number uint32) iso7816.Status {
	switch {
	case !c.strict() || readContactless[number]:
		return iso7816.StatusOK
	case c == ContactlessHide:
		return iso7816.StatusFileNotFound
	}
	return iso7816.StatusSecurity
}
