package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
)

// conversation is login.Conversation over the socket to the relay. A worker is silent while its
// question is open: what other goroutines have to say waits until the answer is there.
type conversation struct {
	mu      sync.Mutex // guards the fields below; it is held from a question to its answer
	out     io.Writer
	answers <-chan frame // of the goroutine that reads the socket; closed when the host is gone
	asked   bool         // a prompt was made: from then on no PAM_IGNORE
	life    *lifetime    // of the worker, which stands still while a question is open; nil has no end
}

var errHostGone = errors.New("the host is gone")

// Prompt implements login.Conversation.
func (c *conversation) Prompt(ctx context.Context, text string) (*secret.PIN, error) {
	return c.ask(ctx, kindEchoOff, text)
}

// Ask implements login.Conversation.
func (c *conversation) Ask(ctx context.Context, text string) (string, error) {
	answer, err := c.ask(ctx, kindEchoOn, text)
	if err != nil {
		return "", err
	}
	defer answer.Wipe()
	return string(answer.Bytes()), nil
}

// TakeOver implements login.Conversation.
func (c *conversation) TakeOver(ctx context.Context, which login.Item) (*secret.PIN, error) {
	k := kindTakeAuthtok
	if which == login.OldAuthtok {
		k = kindTakeOldAuthtok
	}
	answer, err := c.ask(ctx, k, "")
	if errors.Is(err, errNoAnswer) {
		return nil, nil
	}
	return answer, err
}

var errNoAnswer = errors.New("there is no answer")

func (c *conversation) ask(ctx context.Context, k kind, text string) (*secret.PIN, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.asked = true
	// How long a user takes for the answer is not the worker's time.
	defer c.life.pause()()
	if err := writeFrame(c.out, verbPrompt, []byte{byte(k)}, fit(text)); err != nil {
		return nil, fmt.Errorf("%w: %w", login.ErrConversation, err)
	}

	select {
	case f, open := <-c.answers:
		if !open {
			return nil, fmt.Errorf("%w: %w", login.ErrConversation, errHostGone)
		}
		return readAnswer(f)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", login.ErrConversation, ctx.Err())
	}
}

// readAnswer moves an answer into memory of its own and wipes the frame.
func readAnswer(f frame) (*secret.PIN, error) {
	defer secret.Wipe(f.payload)
	if f.verb != verbAnswer || len(f.payload) < 1 {
		return nil, fmt.Errorf("%w: the relay sent no answer", login.ErrConversation)
	}

	switch answerStatus(f.payload[0]) {
	case answerGiven:
		return secret.New(f.payload[1:])
	case answerNone:
		return nil, errNoAnswer
	}
	return nil, login.ErrConversation
}

// Info implements login.Conversation.
func (c *conversation) Info(_ context.Context, text string) error {
	return c.say(verbMessage, []byte{byte(kindInfo)}, fit(text))
}

// Error implements login.Conversation.
func (c *conversation) Error(_ context.Context, text string) error {
	return c.say(verbMessage, []byte{byte(kindError)}, fit(text))
}

// longestWait is what the relay grants (RELAY_LONGEST_WAIT).
const longestWait = 600 * time.Second

// Wait implements login.Conversation.
func (c *conversation) Wait(_ context.Context, d time.Duration) error {
	// The relay takes milliseconds, and refuses more than its own limit.
	ms := binary.LittleEndian.AppendUint32(nil, uint32(min(max(d, 0), longestWait)/time.Millisecond))
	return c.say(verbWait, ms)
}

// say sends what needs no answer.
func (c *conversation) say(v verb, payload ...[]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return writeFrame(c.out, v, payload...)
}

// fit makes a text fit for a C string of the protocol. Texts are ours, but labels and names in them
// are a card's.
func fit(text string) []byte {
	// In C the text would end at a NUL.
	text = strings.Map(func(r rune) rune {
		if r == 0 {
			return -1
		}
		return r
	}, text)

	// The cut may have split a character: what is left of it goes.
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return []byte(text)
}
