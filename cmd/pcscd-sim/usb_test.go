package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
)

// patience bounds every wait of these tests: reaching it is a failure.
const patience = time.Minute

// startUSB has a resource manager drive what a description says of readers at a USB bus. CONTROL in
// it stands for the path of a control socket, which is returned.
func startUSB(t *testing.T, description string) (c *pcsc.Context, control string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pcscd-sim") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	control = filepath.Join(dir, "control")
	file := filepath.Join(dir, "readers")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(description, "CONTROL", control)), 0o600); err != nil {
		t.Fatal(err)
	}

	m := resmgr.New(resmgr.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended, err := plugUSB(ctx, m, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Ready()
	if c, err = pcsc.NewContext(m); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Release(); err != nil {
			t.Error(err)
		}
		cancel()
		<-ended
		m.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return c, control
}

// controller is a client of a control socket.
type controller struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Scanner
}

func dial(t *testing.T, path string) *controller {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &controller{t, conn, bufio.NewScanner(conn)}
}

// says writes one line and wants this answer.
func (c *controller) says(line, want string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.conn, line); err != nil {
		c.t.Fatal(err)
	}
	c.hears(want)
}

// hears wants a line with this beginning.
func (c *controller) hears(want string) {
	c.t.Helper()
	if !c.lines.Scan() {
		c.t.Fatalf("the socket says nothing, where %q is wanted: %v", want, c.lines.Err())
	}
	if got := c.lines.Text(); !strings.HasPrefix(got, want) {
		c.t.Fatalf("the socket says %q, where %q is wanted", got, want)
	}
}

var (
	selectPIV = []byte{0x00, 0xA4, 0x04, 0x00, 0x09, 0xA0, 0x00, 0x00, 0x03, 0x08, 0x00, 0x00, 0x10, 0x00, 0x00}
	verifyPIN = []byte{0x00, 0x20, 0x00, 0x80, 0x08, '1', '2', '3', '4', '5', '6', 0xFF, 0xFF}
)

const piv = "reader Test\ncard piv\ncontrol CONTROL\nlevel "

func TestCommandsAreWatchedAndHeldUp(t *testing.T) {
	for _, level := range []string{"tpdu", "short", "extended"} {
		t.Run(level, func(t *testing.T) {
			c, path := startUSB(t, piv+level+"\n")
			card, err := c.Connect("Test 00 00", pcsc.ShareShared, pcsc.ProtocolT1)
			if err != nil {
				t.Fatal(err)
			}
			control := dial(t, path)
			control.says("trace", "ok")
			if _, err := card.Transmit(selectPIV); err != nil {
				t.Fatal(err)
			}
			control.hears("before 1 00A40400")
			control.hears("after 1 61")

			control.says("hold", "ok")
			answered := make(chan error, 1)
			go func() {
				_, err := card.Transmit(verifyPIN)
				answered <- err
			}()
			control.hears("before 2 0020008008")
			control.says("remove", "ok")
			control.says("drop", "ok")
			if err := <-answered; err == nil {
				t.Error("a card that was pulled has answered")
			}
			control.says("count", "ok 0 3 3")
			control.says("go", "no command waits")
		})
	}
}

func TestAReaderIsUnpluggedAndComesBack(t *testing.T) {
	c, path := startUSB(t, piv+"short\n")
	control := dial(t, path)
	control.says("unplug", "ok")
	await(t, func() bool { names, _ := c.ListReaders(); return len(names) == 0 })
	control.says("plug", "ok")
	await(t, func() bool {
		card, err := c.Connect("Test 00 00", pcsc.ShareShared, pcsc.ProtocolT1)
		return err == nil && card.Disconnect(pcsc.LeaveCard) == nil
	})
	control.says("nonsense", "no command")
}

// TestPINsAreNotTold: not even of commands whose lengths are wrong.
func TestPINsAreNotTold(t *testing.T) {
	for _, c := range [][]byte{verifyPIN, verifyPIN[:len(verifyPIN)-1], append(verifyPIN[:len(verifyPIN):len(verifyPIN)], 0, 0, 0)} {
		if told := withoutPIN(c); len(told) != 5 {
			t.Errorf("of % X this is told: % X", c, told)
		}
	}
	if told := withoutPIN(selectPIV); len(told) != len(selectPIV) {
		t.Errorf("of a command without a PIN this is told: % X", told)
	}
}

// TestWhoListensHoldsNothingUpWhenHeGoes: a test that dies leaves a card that works.
func TestWhoListensHoldsNothingUpWhenHeGoes(t *testing.T) {
	c, path := startUSB(t, piv+"short\n")
	card, err := c.Connect("Test 00 00", pcsc.ShareShared, pcsc.ProtocolT1)
	if err != nil {
		t.Fatal(err)
	}
	control := dial(t, path)
	control.says("hold", "ok")
	answered := make(chan error, 1)
	go func() {
		_, err := card.Transmit(selectPIV)
		answered <- err
	}()
	control.hears("before")
	control.conn.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	if !slowtest.Poll(patience, time.Millisecond, done) {
		t.Fatal("it has not come to that")
	}
}

func TestWordsOfReadersAtABus(t *testing.T) {
	for text, want := range map[string]string{
		"reader A\nlevel best":            "level is one of",
		"reader A\npad no":                "pad is yes",
		"reader A\ncontrol":               "the path of a socket",
		"reader A\npad yes\nlevel short":  "has the level tpdu",
		"reader A\nslots 2\nlevel short":  "no words of readers",
		"reader A\nserial 12\nlevel tpdu": "no words of readers",
	} {
		file := writeFile(t, text)
		m := resmgr.New(resmgr.Options{})
		if _, err := plugUSB(t.Context(), m, file, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		m.Close()
	}
	if _, err := plug(t.Context(), nil, writeFile(t, "reader A\nlevel tpdu\n"), nil); err == nil {
		t.Error("a reader that is at no bus has taken the words of one")
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "readers")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
