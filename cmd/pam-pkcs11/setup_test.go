package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/secret"
)

// TestReadPIN: one line, also where whoever writes it keeps the descriptor open.
func TestReadPIN(t *testing.T) {
	for _, tt := range []struct {
		text  string
		close bool
		want  string
		fails bool
	}{
		{text: "123456\n", want: "123456"},
		{text: "123456\nmore", want: "123456"},
		{text: "123456", close: true, want: "123456"},
		{text: "\n", fails: true},
		{close: true, fails: true},
		{text: strings.Repeat("1", secret.MaxPIN+2), fails: true},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.WriteString(tt.text)
		if tt.close {
			err = errors.Join(err, w.Close())
		}
		fd, dup := unix.Dup(int(r.Fd())) // readPIN closes its descriptor
		if err = errors.Join(err, dup); err != nil {
			t.Fatal(err)
		}

		pin, err := readPIN(fd)
		if (err != nil) != tt.fails || string(pin.Bytes()) != tt.want {
			t.Errorf("%q: %v", tt.text, err)
		}
		pin.Wipe()
		_, _ = r.Close(), w.Close()
	}
}
