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
// goes, nothing is held up any more. A client writes lines, and each is answered by "ok", "ok" and
// a value, or "no" and a reason:
//
//	remove, insert         take the card out, put it in
//	unplug, plug           take the reader away with the card in it, and bring it back
//	press OLD [NEW AGAIN]  what is typed at the keypad from now on; "press cancel" presses the cancel key, "press nothing" none
//	count                  "VERIFIES PIN PUK": the PINs that came, and the tries that are left of PIN and PUK
//	trace                  from now on each command and answer is told
//	hold                   from now on each command waits before it goes to the card, and each answer before it is given
//	go                     lets what waits go on
//	drop                   lets what waits go nowhere: the card does not get the command, or its answer is lost
//	free                   ends trace and hold
//
// What is told begins with "before" or "after", the number of the command since the daemon has
// started, and its bytes; those of PINs are left out. With hold it waits there.
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
			end := context.AfterFunc(ctx, func() { client.Close() })
			u.serve(client)
			end()
			client.Close()
		}
	}()
	return nil
}

// serve does what one client says.
func (u *usbReader) serve(client net.Conn) {
	lines := bufio.NewScanner(client)
	tell := make(chan string, 64)
	told := make(chan struct{})
	go func() {
		defer close(told)
		for line := range tell {
			if _, err := fmt.Fprintln(client, line); err != nil {
				client.Close()
			}
		}
	}()
	if u.card != nil {
		u.card.listener(tell)
	}
	for lines.Scan() {
		tell <- u.control(strings.Fields(lines.Text()))
	}
	if u.card != nil {
		u.card.listener(nil)
	}
	close(tell)
	<-told
}

// control does one line.
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
		if u.card == nil {
			return "no card"
		}
		return u.card.control(words[0])
	default:
		return fmt.Sprintf("no command is called %q", words[0])
	}
	return "ok"
}

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
		p.Old, p.New, p.Again = words[0], words[1], words[2]
	default:
		return "no one or three PINs"
	}
	u.press(p)
	return "ok"
}

// counted is a card that counts PINs.
type counted interface {
	Verifies() int
	Tries() (pin, puk int)
}

func (u *usbReader) count() string {
	if u.card == nil {
		return "no card"
	}
	c, ok := u.card.Card.(counted)
	if !ok {
		return "no card that has a PIN"
	}
	pin, puk := c.Tries()
	return fmt.Sprintf("ok %d %d %d", c.Verifies(), pin, puk)
}
