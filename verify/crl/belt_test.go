package crl

import (
	"encoding/binary"
	"testing"
	"time"
)

// TestBelt: whatever side is the slower one, every buffer arrives, in order, and as many buffers are enough.
func TestBelt(t *testing.T) {
	for name, pause := range map[string][2]time.Duration{"even": {}, "slow producer": {time.Millisecond, 0}, "slow consumer": {0, time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			b, err := newBelt(3)
			if err != nil {
				t.Fatal(err)
			}
			defer b.close()
			count := uint64(100000)
			if name != "even" {
				count = 50
			}
			go func() {
				for i := range count {
					buffer, _ := b.empty()
					time.Sleep(pause[0])
					b.send(binary.NativeEndian.AppendUint64(buffer[:0], i))
				}
				b.finish()
			}()
			for i := range count {
				buffer, ok := b.take()
				if !ok || binary.NativeEndian.Uint64(buffer) != i {
					t.Fatalf("number %d: %x, %v", i, buffer, ok)
				}
				time.Sleep(pause[1])
			}
			for range 2 {
				if _, ok := b.take(); ok {
					t.Fatal("more than was sent")
				}
			}
		})
	}
}

// TestBeltUnwanted: a producer that waits for a buffer is told that the consumer has gone.
func TestBeltUnwanted(t *testing.T) {
	b, err := newBelt(2)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	sent := make(chan int)
	go func() {
		n := 0
		for buffer, wanted := b.empty(); wanted; buffer, wanted = b.empty() {
			b.send(buffer)
			n++
		}
		b.finish()
		sent <- n
	}()
	b.take()
	b.refuse()
	if n := <-sent; n < 1 || n > 3 {
		t.Errorf("%d buffers were sent", n)
	}
}
