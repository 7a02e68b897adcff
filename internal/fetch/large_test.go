package fetch

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"pam_pkcs11/internal/fetch/fetchtest"
)

// peak is the most memory of this process, in KiB.
func peak(t *testing.T, failed error) int64 {
	t.Helper()
	kib, err := fetchtest.PeakMemory()
	if err := errors.Join(failed, err); err != nil {
		t.Fatal(err)
	}
	return kib
}

// gigabyte sends a body of 1 GiB, or as much as the client takes, under a header of the caller's.
func gigabyte(t *testing.T, header string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				if _, err := io.WriteString(c, header); err != nil {
					return
				}
				for block, n := make([]byte, 1<<18), 0; n < 1<<30; n += len(block) {
					if _, err := c.Write(block); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/"
}

// TestGigabyte: more than the limit of 512 MiB that holds by default is an error, whatever the server says of its length,
// and nothing of it is kept in memory.
func TestGigabyte(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		read         int64 // octets of the body that reach the caller
		fails        error
	}{
		{"no length", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", DefaultMaxBytes, ErrTooLarge},
		{"HTTP 1.0", "HTTP/1.0 200 OK\r\n\r\n", DefaultMaxBytes, ErrTooLarge},
		{"1 GiB announced", "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", 0, ErrTooLarge},
		{"a chunk of 1 GiB", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n", DefaultMaxBytes, ErrTooLarge},
		{"announced as large as the limit", "HTTP/1.1 200 OK\r\nContent-Length: 536870912\r\n\r\n", DefaultMaxBytes, nil},
		{"announced as small", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", 100, nil},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Length: 1073741824\r\n\r\n", 0, errAny},
		{"a length below zero", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, errAny},
		{"a length of 2^64 and 100", "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551716\r\n\r\n", 0, errAny},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := peak(t, fetchtest.ForgetPeak())
			a, err := (&Client{AllowLocal: true}).Get(deadline(t, 30*time.Second), gigabyte(t, tt.header), Validators{})
			var n int64
			if err == nil {
				n, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, a.Body, make([]byte, 1<<18))
				a.Body.Close()
			}
			if tt.fails == nil && err != nil || tt.fails != nil && (err == nil || tt.fails != errAny && !errors.Is(err, tt.fails)) {
				t.Errorf("got %v", err)
			}
			if n != tt.read {
				t.Errorf("%d octets were read, expected %d", n, tt.read)
			}
			if grown := peak(t, nil) - before; grown > 16<<10 {
				t.Errorf("memory grew by %d KiB", grown)
			}
		})
	}
}
