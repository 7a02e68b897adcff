package pamlogin

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/internal/secret"
)

// frame is one frame of a child.
func frame(kind byte, text string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(text))), text...)
}

// follow plays a child that sends bytes and then ends, and returns what it was answered.
func follow(t *testing.T, sent []byte, answers map[string]string) (*End, []byte, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	heard := make(chan []byte, 1)
	go func() {
		var all []byte
		go func() {
			_, _ = theirs.Write(sent)
			time.Sleep(50 * time.Millisecond)
			_ = theirs.Close()
		}()
		buffer := make([]byte, 600)
		for {
			n, err := theirs.Read(buffer)
			all = append(all, buffer[:n]...)
			if err != nil {
				heard <- all
				return
			}
		}
	}()

	end, err := Follow(context.Background(), ours, func(a Asked) (*secret.PIN, error) {
		text, known := answers[a.Text]
		switch {
		case !known:
			return nil, ErrNoAnswer
		case text == "":
			return nil, nil
		}
		return secret.New([]byte(text))
	})
	_ = ours.Close()
	return end, <-heard, err
}

func TestFollow(t *testing.T) {
	sent := append(frame(frameInfo, "Welcome alice"), frame(frameSecret, "PIN: ")...)
	sent = append(sent, frame(frameEnd, "0 0 alice smith")...)
	end, heard, err := follow(t, sent, map[string]string{"PIN: ": "1234"})
	if err != nil || !end.In() || end.User != "alice smith" || strings.Join(end.Said, "|") != "Welcome alice|PIN: " {
		t.Errorf("%+v, %v", end, err)
	}
	if string(heard) != "\x00\x00\x00\x041234" {
		t.Errorf("answered %q", heard)
	}

	for name, tt := range map[string]struct {
		sent    []byte
		answers map[string]string
		heard   string
		in      bool
		fault   string
	}{
		"nothing is typed":    {append(frame('S', "PIN: "), frame('R', "0 0 a")...), map[string]string{"PIN: ": ""}, "\x00\x00\x00\x00", true, ""},
		"an unknown question": {append(frame('V', "Code: "), frame('R', "19 -1 a")...), nil, "\xff\xff\xff\xff", false, ""},
		"account refuses":     {frame('R', "0 13 a"), nil, "", false, ""},
		"account alone":       {frame('R', "-1 0 a"), nil, "", true, ""},
		"cannot begin":        {frame('F', "no libpam"), nil, "", false, "no libpam"},
		"ends in silence":     {frame('I', "x"), nil, "", false, "without an answer"},
		"half a frame":        {frame('I', "hello")[:7], nil, "", false, "without an answer"},
		"too long":            {[]byte{'I', 0xFF, 0, 0, 0}, nil, "", false, "a frame of"},
		"unknown":             {frame('X', ""), nil, "", false, "kind"},
		"no numbers":          {frame('R', "alice"), nil, "", false, "expected integer"},
	} {
		end, heard, err := follow(t, tt.sent, tt.answers)
		if (err == nil) != (tt.fault == "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && end.In() != tt.in || string(heard) != tt.heard {
			t.Errorf("%s: %+v, answered %q", name, end, heard)
		}
	}
}

// TestFollowEndsWithItsContext: a module that hangs holds nobody up.
func TestFollowEndsWithItsContext(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Follow(ctx, ours, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestChild: the real libpam answers for a service that nobody has, whose stack is `other`'s, and
// says what it did.
func TestChild(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	file := os.NewFile(uintptr(pair[0]), "socket")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	go Child(pair[1], "no-such-service-of-pam-pkcs11", "no-such-user-of-pam-pkcs11", Account)
	end, err := Follow(context.Background(), conn, func(Asked) (*secret.PIN, error) { return nil, ErrNoAnswer })
	if err == nil && (end.Auth != -1 || end.In()) {
		t.Errorf("%+v", end)
	}
	if err != nil && strings.Contains(err.Error(), "without an answer") {
		t.Error(err)
	}
}
