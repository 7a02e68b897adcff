package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/message"
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

// TestSignalEndsAQuestion: Ctrl-C at a question is no answer, and later ones are not put.
func TestSignalEndsAQuestion(t *testing.T) {
	silent, w := io.Pipe()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	p := &person{ctx: ctx, o: &output{}, out: io.Discard, in: bufio.NewReader(silent)}
	asked := make(chan error, 1)
	go func() {
		_, err := p.Agree(message.Textf("Make these changes?"))
		asked <- err
	}()

	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if yes, err := p.Agree(message.Textf("Make these changes?")); yes || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", yes, err)
	}
}

// TestSetupUsage: what does not go together is told before anything is looked at.
func TestSetupUsage(t *testing.T) {
	for _, tt := range []struct {
		args string
		said string
	}{
		{"--keep --yes", "--keep goes with no --yes"},
		{"--yes --user alice --revert-after 5s", "--revert-after is 0 or from 10s to 24h0m0s, not 5s"},
		{"--yes --user alice --revert-after 25h", "--revert-after is"},
		{"--yes --user alice --revert-after soon", "invalid argument"},
	} {
		var out, said strings.Builder
		args := append([]string{program, "setup"}, strings.Fields(tt.args)...)
		if code := run(args, strings.NewReader(""), &out, &said); code != cli.Usage || !strings.Contains(said.String(), tt.said) {
			t.Errorf("%s: %d, %s%s", tt.args, code, out.String(), said.String())
		}
	}
}
