package nettest

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestAddresses(t *testing.T) {
	if _, err := net.Dial("tcp", Closed(t)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: %v", err)
	}

	c, err := net.Dial("tcp", Mute(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("mute: %d octets, %v", n, err)
	}
}
