package main

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestKeysAreKeys(t *testing.T) {
	one, two := rsaBlob(anyModulus(7)), rsaBlob(anyModulus(8))
	key, err := ssh.ParsePublicKey(one)
	if err != nil || !bytes.Equal(key.Marshal(), one) || bytes.Equal(one, two) {
		t.Error(key, err)
	}
}

func TestAddedIsTheMedianOfTheRounds(t *testing.T) {
	off, on := &contestant{}, &contestant{}
	for _, pair := range [][2]time.Duration{{1, 4}, {100, 101}, {5, 1000}} {
		off.samples = append(off.samples, sample{wall: pair[0]})
		on.samples = append(on.samples, sample{wall: pair[1]})
	}
	if d := added(off, on); d != 3 {
		t.Errorf("%d, want 3", d)
	}
}

func TestUsage(t *testing.T) {
	var said bytes.Buffer
	for _, args := range [][]string{nil, {"-rounds", "1", "build"}, {"a", "b"}, {"-x"}} {
		if code := run(args, &said, &said); code != 2 {
			t.Errorf("%q: %d", args, code)
		}
	}
}
