package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
)

// TestCodes walks all outcomes: none is a success or an ignore by accident.
func TestCodes(t *testing.T) {
	modes := []login.Mode{login.ModeRefuse, login.ModeSkip, login.ModeCardOnly}
	for _, o := range login.Outcomes() {
		for i := range 2 * len(modes) {
			change, mode := i >= len(modes), modes[i%len(modes)]
			got := code(o.Answer(mode).Class, change)
			if (got == pamSuccess) != (o == login.Success) {
				t.Errorf("%v is PAM code %d", o, got)
			}
			if (got == pamIgnore) != (o == login.ScreenSaverCancelled || o == login.ChangeNotOurs) {
				t.Errorf("%v is PAM code %d", o, got)
			}
			allowed := "\x00\x07\x08\x09\x19"
			if change {
				allowed = "\x00\x14\x19"
			}
			if strings.IndexByte(allowed, got) < 0 {
				t.Errorf("%v (change %v) is PAM code %d", o, change, got)
			}
		}
	}
	for _, o := range []login.Outcome{-1, 1000} {
		if got := code(o.Answer(login.ModeRefuse).Class, false); got != pamAuthinfoUnavail {
			t.Errorf("an unknown outcome is PAM code %d", got)
		}
	}
	for o, want := range map[login.Outcome]byte{
		login.PINIncorrect: pamAuthErr, login.PINLocked: pamAuthErr, login.ForeignCard: pamCredInsufficient, login.NoCard: pamAuthinfoUnavail,
		login.CertificateRevoked: pamCredInsufficient, login.RemoteRefused: pamAuthinfoUnavail, login.ProofFailed: pamAuthErr,
	} {
		if got := code(o.Answer(login.ModeRefuse).Class, false); got != want {
			t.Errorf("%v is PAM code %d, want %d", o, got, want)
		}
	}
}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOldestRelay keeps what the first release's relay sends: a module stays mapped in long-lived hosts over an
// upgrade and meets the new worker. These files are never written anew.
func TestOldestRelay(t *testing.T) {
	r := bytes.NewReader(golden(t, "relay-1-authenticate.hex"))
	f, err := readFrame(r)
	if err != nil {
		t.Fatal(err)
	}
	q, err := readRequest(f)
	if err != nil {
		t.Fatal(err)
	}
	if q.Service != "sudo" || q.User != "alice" || q.RHost != "host" || q.TTY != "/dev/tty1" || q.RUser != "bob" || !q.Silent || q.change ||
		strings.Join(q.Args, " ") != "debug config_file=/etc/x" || q.Environ("LANG") != "it_IT.UTF-8" || q.Environ("HOME") != "" {
		t.Errorf("got %+v", q.Request)
	}
	answer, err := readFrame(r)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := readAnswer(answer)
	if err != nil || string(pin.Bytes()) != "1234" {
		t.Errorf("answer %q, %v", pin.Bytes(), err)
	}
	pin.Wipe()
	if f, err = readFrame(bytes.NewReader(golden(t, "relay-1-change.hex"))); err != nil {
		t.Fatal(err)
	}
	if q, err = readRequest(f); err != nil || !q.change || !q.rootForAnother || q.flags != pamPrelimCheck {
		t.Errorf("got %+v, %v", q, err)
	}
}

func TestRequestsRefused(t *testing.T) {
	tests := map[string]frame{
		"not a request":            {verbAnswer, nil},
		"field cut short":          {verbAuthenticate, []byte{1, 0}},
		"field longer than frame":  {verbAuthenticate, []byte{1, 9, 0, 'x'}},
		"NUL in the user":          {verbAuthenticate, appendField(nil, tagUser, []byte("root\x00x"))},
		"NUL in an argument":       {verbAuthenticate, appendField(nil, tagArgument, []byte("a\x00"))},
		"flags of the wrong size":  {verbAuthenticate, appendField(nil, tagFlags, []byte{1})},
		"a variable not in list":   {verbAuthenticate, appendField(nil, tagEnvironment, []byte("LD_PRELOAD=x"))},
		"a variable without value": {verbAuthenticate, appendField(nil, tagEnvironment, []byte("LANG"))},
		"too many arguments":       {verbAuthenticate, bytes.Repeat(appendField(nil, tagArgument, []byte("a")), maxArguments+1)},
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := readRequest(f); err == nil {
				t.Error("no error")
			}
		})
	}
	q, err := readRequest(frame{verbAuthenticate, appendField(appendField(nil, 200, []byte("later")), tagUser, []byte("alice"))})
	if err != nil || q.User != "alice" {
		t.Errorf("a field of a later release: %v", err)
	}
}

// TestConversation plays the relay.
func TestConversation(t *testing.T) {
	defer goleak.VerifyNone(t)
	host, worker := net.Pipe()
	answers := make(chan frame, 1)
	c := &conversation{out: worker, answers: answers}
	go func() {
		for _, status := range []string{"\x001234", "\x00typed", "\x02", "\x01", ""} {
			f, err := readFrame(host)
			if err != nil || f.verb != verbPrompt {
				return
			}
			answers <- frame{verbAnswer, []byte(status)}
		}
	}()
	ctx := t.Context()
	if pin, err := c.Prompt(ctx, "PIN: "); err != nil || string(pin.Bytes()) != "1234" {
		t.Errorf("Prompt: %v", err)
	}
	if s, err := c.Ask(ctx, "which?"); err != nil || s != "typed" {
		t.Errorf("Ask: %q, %v", s, err)
	}
	if pin, err := c.TakeOver(ctx, login.Authtok); pin != nil || err != nil {
		t.Errorf("TakeOver of nothing: %v, %v", pin, err)
	}
	if _, err := c.Prompt(ctx, "PIN: "); !errors.Is(err, login.ErrConversation) {
		t.Errorf("a failed conversation: %v", err)
	}
	if _, err := c.Prompt(ctx, "PIN: "); !errors.Is(err, login.ErrConversation) {
		t.Errorf("an empty answer: %v", err)
	}
	_ = host.Close()
	_ = worker.Close()
}

func TestAnswerIsWiped(t *testing.T) {
	payload := []byte("\x001234")
	pin, err := readAnswer(frame{verbAnswer, payload})
	if err != nil {
		t.Fatal(err)
	}
	defer pin.Wipe()
	if !bytes.Equal(payload, make([]byte, len(payload))) {
		t.Errorf("the frame still holds %q", payload)
	}
	if _, err := readAnswer(frame{verbAnswer, append([]byte{0}, make([]byte, secret.MaxPIN+1)...)}); err == nil {
		t.Error("an answer of 513 octets is taken")
	}
}

// TestWorkerEndsWithItsHost: even while nobody waits for a frame.
func TestWorkerEndsWithItsHost(t *testing.T) {
	for name, f := range map[string]func(net.Conn){
		"end of file":          func(c net.Conn) { _ = c.Close() },
		"frames nobody wants":  func(c net.Conn) { _, _ = c.Write(bytes.Repeat([]byte{1, 'R', 0, 0, 0, 0, 0, 0}, 3)); _ = c.Close() },
		"a malformed frame":    func(c net.Conn) { _, _ = c.Write([]byte{9, 9, 9, 9, 9, 9, 9, 9}) },
		"a frame of 2 GiB":     func(c net.Conn) { _, _ = c.Write([]byte{1, 'A', 0, 0, 0, 0, 0, 128}) },
		"a frame cut in two":   func(c net.Conn) { _, _ = c.Write([]byte{1, 'A'}); _ = c.Close() },
		"an unknown version":   func(c net.Conn) { _, _ = c.Write([]byte{2, 'A', 0, 0, 0, 0, 0, 0}) },
		"reserved octets used": func(c net.Conn) { _, _ = c.Write([]byte{1, 'A', 1, 0, 0, 0, 0, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			host, worker := net.Pipe()
			ended := make(chan int, 1)
			go watch(worker, make(chan frame, 1), func(code int) { ended <- code })
			go f(host)
			select {
			case <-ended:
			case <-time.After(time.Minute): // it ends at once: only a hang takes that long
				t.Error("the worker lives on")
			}
			_ = host.Close()
			_ = worker.Close()
		})
	}
}

func TestTextsFit(t *testing.T) {
	for in, want := range map[string]string{"a\x00b": "ab", "": "", strings.Repeat("\u00e9", 2000): strings.Repeat("\u00e9", maxText/2)} {
		if got := string(fit(in)); got != want {
			t.Errorf("fit(%.10q...) has %d octets, want %d", in, len(got), len(want))
		}
	}
}

// FuzzRequest: whatever a host sends is decoded or refused, within bounds.
func FuzzRequest(f *testing.F) {
	f.Add(golden(f, "relay-1-authenticate.hex"))
	f.Add(golden(f, "relay-1-change.hex"))
	f.Add([]byte{1, 'A', 0, 0, 0, 0, 0, 128})
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		for range 8 {
			frame, err := readFrame(r)
			if err != nil {
				return
			}
			if q, err := readRequest(frame); err == nil {
				if strings.ContainsRune(q.User+q.Service+strings.Join(q.Args, ""), 0) || len(q.Args) > maxArguments {
					t.Fatalf("accepted %+v", q.Request)
				}
			}
			pin, _ := readAnswer(frame)
			pin.Wipe()
		}
	})
}
