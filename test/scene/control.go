package scene

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Control moves the card of a simulated reader at a USB bus, and sees each of its commands (see
// cmd/pcscd-sim, control.go, for the words). One goroutine at a time may use it.
type Control struct {
	conn    net.Conn
	answers chan string
	events  chan Event
}

// Event is a command on its way to the card, or an answer on its way back.
type Event struct {
	After  bool // it is an answer
	Number int  // of the command since the daemon's start, from 1
	Bytes  []byte
}

// String is such as "before 3 00200080".
func (e Event) String() string {
	when := "before"
	if e.After {
		when = "after"
	}
	return fmt.Sprintf("%s %d %X", when, e.Number, e.Bytes)
}

// maxEvents bounds the events that nobody has asked for yet.
const maxEvents = 10000

// errControlEnded is said when the daemon is not there any more.
var errControlEnded = errors.New("the control socket of the simulated reader has ended")

// controlTime bounds each answer of the control socket.
const controlTime = 2 * time.Minute

// Control opens the control socket of the i-th reader. The caller calls Close.
func (r *Readers) Control(i int) (*Control, error) {
	conn, err := net.Dial("unix", r.controlPath(i))
	if err != nil {
		return nil, err
	}
	c := &Control{conn: conn, answers: make(chan string, 1), events: make(chan Event, maxEvents)}
	go c.listen()
	return c, nil
}

// listen tells answers and events apart.
func (c *Control) listen() {
	defer close(c.answers)
	defer close(c.events)
	for lines := bufio.NewScanner(c.conn); lines.Scan(); {
		line := lines.Text()
		if event, ok := parseEvent(line); ok {
			c.events <- event
		} else {
			c.answers <- line
		}
	}
}

func parseEvent(line string) (Event, bool) {
	var when, text string
	var e Event
	if n, err := fmt.Sscan(line, &when, &e.Number, &text); n < 3 || err != nil {
		return e, false
	}
	e.After = when == "after"
	var err error
	e.Bytes, err = hex.DecodeString(text)
	return e, err == nil && (e.After || when == "before")
}

// Say writes one line and returns what follows "ok".
func (c *Control) Say(line string) (string, error) {
	if _, err := fmt.Fprintln(c.conn, line); err != nil {
		return "", err
	}
	select {
	case answer, there := <-c.answers:
		rest, ok := strings.CutPrefix(answer, "ok")
		switch {
		case !there:
			return "", errControlEnded
		case !ok:
			return "", fmt.Errorf("%s: %s", line, answer)
		}
		return strings.TrimSpace(rest), nil
	case <-time.After(controlTime):
		return "", fmt.Errorf("%s: no answer of the simulated reader", line)
	}
}

// Do writes lines that need no value.
func (c *Control) Do(lines ...string) error {
	for _, line := range lines {
		if _, err := c.Say(line); err != nil {
			return err
		}
	}
	return nil
}

// Next waits for the next event; "trace" or "hold" must have been said.
func (c *Control) Next(ctx context.Context) (Event, error) {
	select {
	case e, there := <-c.events:
		if !there {
			return e, errControlEnded
		}
		return e, nil
	case <-ctx.Done():
		return Event{}, ctx.Err()
	}
}

// Seen returns the events that have come and that Next has not returned.
func (c *Control) Seen() []Event {
	var all []Event
	for {
		select {
		case e, there := <-c.events:
			if !there {
				return all
			}
			all = append(all, e)
		default:
			return all
		}
	}
}

// Count returns how many PINs the card has got, and the tries that are left of PIN and PUK.
func (c *Control) Count() (verifies, pin, puk int, err error) {
	answer, err := c.Say("count")
	if err != nil {
		return 0, 0, 0, err
	}
	_, err = fmt.Sscan(answer, &verifies, &pin, &puk)
	return verifies, pin, puk, err
}

// Close ends it. Whatever it has held up goes on.
func (c *Control) Close() error { return c.conn.Close() }
