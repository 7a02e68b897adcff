// Package nettest has addresses of this machine for tests: one at which nobody listens, and one of a
// server that is mute.
package nettest

import (
	"net"
	"testing"
)

// Closed is a TCP address, "127.0.0.1:PORT", at which nobody listens. A server of the test may take
// it; that no other program takes it before is likely only.
func Closed(t testing.TB) string {
	t.Helper()
	l := listen(t)
	_ = l.Close()
	return l.Addr().String()
}

// Mute is the TCP address, "127.0.0.1:PORT", of a server that lets clients connect and says nothing,
// until the test ends.
func Mute(t testing.TB) string {
	t.Helper()
	l := listen(t)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
