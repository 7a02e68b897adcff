package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// simulated is what a FILE describes, one word and its value per line, "#" begins a comment:
//
//	reader NAME              begins a reader; the lines up to the next one are about it
//	interface TEXT           its interface string
//	serial TEXT              its serial number
//	slots N                  1 to 16 (1)
//	notify yes|no            reports card movements by itself (yes), or has to be asked
//	card piv|echo|size|none  what is in its slots (none). echo answers with what it gets; size
//	                         answers with as many bytes as bytes 1 to 3 of the command say
//	key REF FILE             a private key of the PIV card in the place 9A, 9C, 9D, 9E or 82 to
//	                         95 (PEM)
//	certificate REF FILE [F] the certificate beside it (PEM), in a form: gzip, netid, no-info,
//	                         info-first, old. Without these lines the card makes keys of its own
//	every DURATION           takes the card out and puts it back again and again, for measurements
//	moves FILE               appends the monotonic clock before each of these movements, in
//	                         nanoseconds
//	...                      what the PIV card does beside: the words of pivWords
//
// and, where the readers are those of a USB bus (see plugUSB), the words of usbWords.
type simulated struct {
	pcsctest.Reader
	slots  int
	notify bool
	card   string
	files  []pivFile // of a PIV card
	piv    pivWords
	every  time.Duration
	moves  string
	usb    usbWords
}

// maxReaders bounds a description.
const maxReaders = 64

// parse reads the description of readers in file.
func parse(file string, r io.Reader) ([]*simulated, error) {
	var all []*simulated
	lines := bufio.NewScanner(io.LimitReader(r, 1<<16))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		word, value, _ := strings.Cut(strings.TrimSpace(text), " ")
		value = strings.TrimSpace(value)

		if word == "" {
			continue
		}

		fail := func(what string) error { return fmt.Errorf("%s:%d: %s", file, n, what) }
		if word == "reader" {
			if value == "" || len(all) == maxReaders {
				return nil, fail("a reader needs a name, and there may be 64")
			}
			s := &simulated{slots: 1, notify: true, card: "none"}
			s.ID = "sim-" + strconv.Itoa(len(all))
			s.Product = value
			all = append(all, s)
			continue
		}

		if len(all) == 0 {
			return nil, fail("the first line names a reader")
		}
		if what := all[len(all)-1].set(word, value); what != "" {
			return nil, fail(what)
		}
	}

	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no reader", file)
	}
	return all, nil
}

// set applies one word, and returns what is wrong with it. The words of the PIV card come first:
// what they do not know is about the reader.
func (s *simulated) set(word, value string) (problem string) {
	err := s.piv.set(word, value)
	switch {
	case err == nil:
		return ""
	case err != errUnknownWord:
		return err.Error()
	}

	switch word {
	case "interface":
		s.Interface = value
	case "serial":
		s.Serial = value
	case "slots":
		s.slots, err = strconv.Atoi(value)
		if err != nil || s.slots < 1 || s.slots > 16 {
			return "slots is a number from 1 to 16"
		}
	case "notify":
		if value != "yes" && value != "no" {
			return "notify is yes or no"
		}
		s.notify = value == "yes"
	case "card":
		if !slices.Contains(cards, value) {
			return fmt.Sprintf("no card is called %q: %s", value, strings.Join(cards, ", "))
		}
		s.card = value
	case "key", "certificate":
		file, err := readPIVFile(word, value)
		if err != nil {
			return err.Error()
		}
		s.files = append(s.files, file)
	case "moves":
		s.moves = value
	case "every":
		s.every, err = time.ParseDuration(value)
		if err != nil || s.every < time.Millisecond {
			return "every is a duration of at least 1ms"
		}
	default:
		return s.usb.set(word, value)
	}
	return ""
}

// cards are the kinds of card.
var cards = []string{"piv", "echo", "size", "none"}

// newCard makes the card of a slot; nil for none.
func (s *simulated) newCard() (pcsctest.Card, error) {
	switch s.card {
	case "echo":
		return &pcsctest.EchoCard{}, nil
	case "size":
		return &pcsctest.SizeCard{}, nil
	case "piv":
		return newPIV(s.files, &s.piv)
	}
	return nil, nil
}

// read reads the description that argument names: FILE, or "piv" for a reader with a PIV card.
func read(argument string) ([]*simulated, error) {
	if argument == "piv" || argument == "" {
		return parse("piv", strings.NewReader("reader Virtual PIV Reader\ncard piv\n"))
	}

	f, err := os.Open(argument)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(argument, f)
}

// plug starts the driver of simulated readers.
func plug(
	ctx context.Context, m *resmgr.Manager, argument string, log *slog.Logger,
) (<-chan error, error) {
	all, err := read(argument)
	if err != nil {
		return nil, err
	}

	readers := make([]pcsctest.Reader, len(all))
	for i, s := range all {
		// The words would have no effect here.
		if s.usb != (usbWords{}) {
			const problem = "level, pad and control are words of readers at a USB bus (usb:FILE)"
			return nil, fmt.Errorf("%s: %s: %s", argument, s.Product, problem)
		}
		if err := s.fill(ctx); err != nil {
			return nil, err
		}
		readers[i] = s.Reader
	}
	return resmgr.Plug(ctx, m, pcsctest.NewDriver(readers...)), nil
}

// Control codes of PC/SC part 10: the request for features, and the one feature that the
// simulated readers have.
const (
	featureRequest = 0x42000D48
	tlvProperties  = 0x42330012
)

// fill makes the slots and their cards.
func (s *simulated) fill(ctx context.Context) error {
	for range s.slots {
		slot := pcsctest.NewSlot(s.notify)
		slot.Codes = map[uint32][]byte{
			// Of the features the reader has GET_TLV_PROPERTIES alone.
			featureRequest: {0x12, 4, 0x42, 0x33, 0, 0x12},
			tlvProperties:  {0x09, 1, 0, 0x0A, 4, 0, 0, 1, 0},
		}
		slot.Attributes[uint32(pcsc.AttrVendorName)] = []byte("Simulation\x00")
		slot.Attributes[uint32(pcsc.AttrVendorIFDSerialNo)] = append([]byte(s.Serial), 0)
		slot.Attributes[uint32(pcsc.AttrMaxinput)] = []byte{0x0C, 0x00, 0x01, 0x00}

		// A card is in one slot at a time: each slot has its own.
		card, err := s.newCard()
		if err != nil {
			return err
		}

		if card != nil {
			slot.Insert(card)
		}
		if s.every > 0 && card != nil {
			go s.move(ctx, slot, card)
		}

		s.Slots = append(s.Slots, slot)
	}
	return nil
}

// move takes the card out and puts it in again until ctx ends.
func (s *simulated) move(ctx context.Context, slot *pcsctest.Slot, card pcsctest.Card) {
	var moves *os.File
	if s.moves != "" {
		var err error
		moves, err = os.OpenFile(s.moves, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return
		}
		defer moves.Close()
	}

	tick := time.NewTicker(s.every)
	defer tick.Stop()

	// The card is in the slot at first.
	for in := true; ; in = !in {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}

		var now unix.Timespec
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
		if in {
			slot.Remove()
		} else {
			slot.Insert(card)
		}
		// After the movement: writing a file may take longer than what is measured.
		if moves != nil {
			fmt.Fprintln(moves, now.Nano())
		}
	}
}
