package main

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pkcs11/pkcs11test"
	"pam_pkcs11/test/scene"
)

// The limits from the card's insertion to the prompt: with a library that tells of it, and with one that must be asked.
const (
	eventLimit = 10 * time.Millisecond
	pollLimit  = 250 * time.Millisecond
)

// insertAfter is how long the reader stays empty after the user has been asked for the card.
const insertAfter = 300 * time.Millisecond

// waiting measures wait_for_card: from the insertion of the card to the PIN prompt.
func (b *bench) waiting(card *scene.Card) (bool, error) {
	good := true
	for _, w := range []struct {
		name, script string
		limit        time.Duration
	}{
		{"with C_WaitForSlotEvent", "", eventLimit},
		{"without", "fault C_WaitForSlotEvent 0 return 0x54", pollLimit},
	} {
		var waits []time.Duration
		for i := range 7 {
			wait, err := b.insert(fmt.Sprintf("wait-%d-%d", len(w.script), i), card, w.script)
			if err != nil {
				return false, fmt.Errorf("wait_for_card %s: %w", w.name, err)
			}
			waits = append(waits, wait)
		}
		fine := median(waits) <= w.limit
		verdict := "within the limit"
		if !fine {
			verdict = "MORE THAN THE LIMIT"
		}
		fmt.Fprintf(b.out, "  wait_for_card, card to prompt, %s: %.1f ms, %s (limit %d ms)\n", w.name, micro(median(waits))/1000, verdict, w.limit.Milliseconds())
		good = good && fine
	}
	return good, nil
}

// insert runs one login that begins without a card and returns the time from its insertion to the prompt.
func (b *bench) insert(name string, card *scene.Card, script string) (time.Duration, error) {
	fault, err := pkcs11test.BuildFault(b.scene.Dir, card.Store().Library)
	if err != nil {
		return 0, err
	}
	if err := fault.Set("absent", script); err != nil {
		return 0, err
	}
	c := &contestant{bench: b, card: card.Behind(fault.Library, fault.Environment()...)}
	if err := c.service(name, "MODULE", c.card); err != nil {
		return 0, err
	}
	if err := b.scene.Service(name, "required MODULE wait_for_card config_file="+filepath.Join(b.scene.Dir, "conf", name+".conf")); err != nil {
		return 0, err
	}
	var inserted time.Duration
	s, err := c.run(0, func() error {
		time.Sleep(insertAfter)
		change, err := fault.Prepare(script)
		if err != nil {
			return err
		}
		inserted = monotonic()
		return change()
	})
	return s.prompted - inserted, err
}

// monotonic is the time by the clock that the host program uses.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
