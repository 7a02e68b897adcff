// Package pamlogin runs one login through the real libpam in a process of its own, so that a PAM
// module that crashes or hangs ends nothing else, and so that the login can be run in another mount
// namespace than that of the program that asks.
//
// The child speaks over a socket: frames of a kind, a length (4 octets, the most significant first)
// and a text. Questions are answered with a length and the answer; the length 0xFFFFFFFF is the
// error of a conversation. The answer goes from the memory of a secret.PIN to the child, whose side
// is in C: Go's heap never has it.
package pamlogin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"pam_pkcs11/internal/secret"
)

// Phase says what of a login is run.
type Phase string

// The phases.
const (
	Whole   Phase = "whole"   // pam_authenticate and, where that goes well, pam_acct_mgmt
	Account Phase = "account" // pam_acct_mgmt alone: needs no secret
)

// The kinds of frames, from the child.
const (
	frameSecret  = 'S' // a question whose answer is not shown
	frameVisible = 'V'
	frameInfo    = 'I'
	frameError   = 'E'
	frameEnd     = 'R' // "AUTH ACCOUNT USER": libpam's numbers, -1 for what was not run
	frameFailed  = 'F' // why the child could not begin
)

// maxText bounds the text of a frame, in bytes; PAM_MAX_MSG_SIZE is 512.
const maxText = 4096

// Asked is one question of a PAM module.
type Asked struct {
	Text   string
	Secret bool
}

// End is how a login has ended.
type End struct {
	Auth    int      // of pam_authenticate, -1 where it was not run
	Account int      // of pam_acct_mgmt, -1 where it was not run
	User    string   // PAM_USER
	Said    []string // what the modules told the user, questions included
}

// In reports whether the user is in.
func (e *End) In() bool { return (e.Auth == 0 || e.Auth == -1) && e.Account == 0 }

// newPasswordRequired is libpam's number for a user who is in as soon as he has set a new password.
const newPasswordRequired = 12

// LetIn reports whether the user is in, or will be as soon as he has set a new password.
func (e *End) LetIn() bool { return e.In() || e.Auth == 0 && e.Account == newPasswordRequired }

// ErrNoAnswer is returned by an answer function for a question that it does not know: the module is
// told that the conversation failed.
var ErrNoAnswer = errors.New("this question has no answer here")

// Follow serves a child until its login has ended. answer's PIN is wiped by its owner; a nil PIN is
// an empty answer.
func Follow(
	ctx context.Context, conn net.Conn, answer func(Asked) (*secret.PIN, error),
) (*End, error) {
	// A deadline that has passed ends the reading at once: a socket knows no context.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	end := &End{Auth: -1, Account: -1}
	for {
		kind, text, err := readFrame(conn)
		// The deadline's error says nothing: the cause is that of the context.
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		if err != nil {
			return end, fmt.Errorf("the login ended without an answer: %w", err)
		}

		switch kind {
		case frameInfo, frameError:
			end.Said = append(end.Said, text)
		case frameSecret, frameVisible:
			end.Said = append(end.Said, text)
			asked := Asked{Text: text, Secret: kind == frameSecret}
			if err := reply(conn, answer, asked); err != nil {
				return end, err
			}
		case frameEnd:
			_, err := fmt.Sscanf(text, "%d %d", &end.Auth, &end.Account)
			// The name comes last, since it may hold spaces.
			if words := strings.SplitN(text, " ", 3); len(words) == 3 {
				end.User = words[2]
			}
			return end, err
		case frameFailed:
			return end, errors.New(text)
		default:
			return end, fmt.Errorf("the login says a frame of kind %q", kind)
		}
	}
}

// readFrame reads one frame.
func readFrame(r io.Reader) (kind byte, text string, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, "", err
	}

	length := binary.BigEndian.Uint32(head[1:])
	if length > maxText {
		return 0, "", fmt.Errorf("a frame of %d bytes", length)
	}

	data := make([]byte, length)
	_, err = io.ReadFull(r, data)
	// Modules may write in any encoding; what is shown and written as JSON must be UTF-8.
	return head[0], strings.ToValidUTF8(string(data), "?"), err
}

// reply answers a question.
func reply(w io.Writer, answer func(Asked) (*secret.PIN, error), asked Asked) error {
	pin, err := answer(asked)
	if err != nil {
		// The child waits for an answer in any case, and is told that there is none.
		_, failed := w.Write([]byte{0xFF, 0xFF, 0xFF, 0xFF})
		if errors.Is(err, ErrNoAnswer) {
			return failed
		}
		return errors.Join(err, failed)
	}

	var length [4]byte
	if pin == nil {
		_, err = w.Write(length[:])
		return err
	}

	binary.BigEndian.PutUint32(length[:], uint32(pin.Len()))
	if _, err = w.Write(length[:]); err == nil {
		_, err = w.Write(pin.Bytes())
	}
	return err
}

// Fail ends a login whose child could not say anything any more.
func Fail(w io.Writer, why error) error {
	text := why.Error()
	if len(text) > maxText {
		text = text[:maxText]
	}

	frame := binary.BigEndian.AppendUint32([]byte{frameFailed}, uint32(len(text)))
	_, err := w.Write(append(frame, text...))
	return err
}
