package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"pam_pkcs11/ccid/ccidtest"
)

// listen makes the control socket, which ends with ctx. One client at a time is served; when it
// goes, no command is held any more. A client writes lines, and each is answered by "ok", "ok" and
// a value, or "no" and a reason:
//
//	remove, insert         take the card out, put it in
//	unplug, plug           take the reader away with the card in it, and bring it back
//	press OLD [NEW AGAIN]  what is typed at the keypad from now on; "press cancel" presses the
//	                       cancel key, "press nothing" none
//	count                  "VERIFIES PIN PUK": the PINs that were sent, and the tries that are left
//	                       of PIN and PUK
//	trace                  from now on each command and answer is reported
//	hold                   from now on each command waits before it goes to the card, and each
//	                       answer before it is given
//	go                     lets what waits go on
//	drop                   drops what waits: the card does not get the command, or its answer is
//	                       lost
//	free                   ends trace and hold
//
// A report begins with "before" or "after", the number of the command since the daemon has started,
// and its bytes; those of PINs are left out. With hold the command waits there.
func (u *usbReader) listen(ctx context.Context) error {
	// A daemon that was killed has left its socket behind.
	if old, err := os.Lstat(u.usb.control); err == nil && old.Mode().Type() == os.ModeSocket {
		if err := os.Remove(u.usb.control); err != nil {
			return err
		}
	}

	l, err := net.Listen("unix", u.usb.control)
	if err != nil {
		return err
	}

	// Others must not move the card, nor see its commands.
	if err := os.Chmod(u.usb.control, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}

	context.AfterFunc(ctx, func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			// Otherwise a client that stays would keep the daemon from serving the
			// next one after the end.
			end := context.AfterFunc(ctx, func() { client.Close() })
			u.serve(client)
			end()
			client.Close()
		}
	}()
	return nil
}

// serve carries out the lines of one client.
func (u *usbReader) serve(client net.Conn) {
	lines := bufio.NewScanner(client)

	// One goroutine writes: reports come from the reader's goroutine, between answers.
	out := make(chan string, 64)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for line := range out {
			// The rest is read and thrown away, so that nobody waits for the channel.
			if _, err := fmt.Fprintln(client, line); err != nil {
				client.Close()
			}
		}
	}()

	if u.card != nil {
		u.card.setListener(out)
	}
	for lines.Scan() {
		out <- u.control(strings.Fields(lines.Text()))
	}

	// Before the channel is closed: nobody sends to it after this.
	if u.card != nil {
		u.card.setListener(nil)
	}
	close(out)
	<-written
}

// control carries out one line.
func (u *usbReader) control(words []string) (answer string) {
	if len(words) == 0 {
		return "no command"
	}

	switch words[0] {
	case "remove":
		u.move(false)
	case "insert":
		u.move(true)
	case "unplug":
		u.unplug()
	case "plug":
		u.plugIn()
	case "press":
		return u.pressed(words[1:])
	case "count":
		return u.count()
	case "trace", "hold", "go", "drop", "free":
		// A reader without a card can still be plugged and unplugged.
		if u.card == nil {
			return "no card"
		}
		return u.card.control(words[0])
	default:
		return fmt.Sprintf("no command is called %q", words[0])
	}
	return "ok"
}

// pressed sets what is typed, from the words of "press".
func (u *usbReader) pressed(words []string) string {
	p := ccidtest.Pad{}
	switch len(words) {
	case 1:
		switch words[0] {
		case "cancel":
			p.Cancel = true
		case "nothing":
			p.Idle = true
		default:
			p.Old = words[0]
		}
	case 3:
		p.Old = words[0]
		p.New = words[1]
		p.Again = words[2]
	default:
		return "no one or three PINs"
	}

	u.press(p)
	return "ok"
}

// pinCounter is a card that counts PINs.
type pinCounter interface {
	Verifies() int
	Tries() (pin, puk int)
}

func (u *usbReader) count() string {
	if u.card == nil {
		return "no card"
	}
	c, ok := u.card.Card.(pinCounter)
	if !ok {
		return "no card that has a PIN"
	}

	pin, puk := c.Tries()
	return fmt.Sprintf("ok %d %d %d", c.Verifies(), pin, puk)
}
