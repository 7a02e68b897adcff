package main

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestOpenPromptIsNotCounted: a prompt that is answered the next day finds the worker alive; its
// own hour goes on then.
func TestOpenPromptIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		host, worker := net.Pipe()
		answers := make(chan frame, 1)
		c := &conversation{out: worker, answers: answers, life: newLifetime(longestLife, func() { ended++ })}
		go func() {
			for range 2 {
				if _, err := readFrame(host); err != nil {
					return
				}
				time.Sleep(26 * time.Hour)
				answers <- frame{verbAnswer, []byte("\x001234")}
			}
		}()

		time.Sleep(20 * time.Minute)
		for range 2 {
			pin, err := c.Prompt(t.Context(), "PIN: ")
			if err != nil {
				t.Fatal(err)
			}
			pin.Wipe()
			time.Sleep(15 * time.Minute)
		}
		if synctest.Wait(); ended != 0 {
			t.Fatal("the time at the prompt was counted")
		}
		time.Sleep(10*time.Minute + time.Second)
		if synctest.Wait(); ended != 1 {
			t.Errorf("ended %d times after an hour of its own", ended)
		}
		_ = host.Close()
		_ = worker.Close()
	})
}
