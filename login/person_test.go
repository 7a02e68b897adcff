package login

import (
	"context"
	"fmt"
	"sync"
	"time"

	"pam_pkcs11/internal/secret"
)

// person is a Conversation that answers from a script and notes what happens, in order: "P", "T" and
// "E" are what is shown, "W" is an announced wait.
type person struct {
	mu      sync.Mutex
	answers []string
	earlier string // the secret of an earlier module, "" for none
	events  []string
	chosen  []string // answers to questions with echo
}

func (p *person) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, fmt.Sprintf(format, args...))
}

func (p *person) Prompt(_ context.Context, text string) (*secret.PIN, error) {
	p.note("P %s", text)
	if len(p.answers) == 0 {
		return nil, ErrConversation
	}
	answer := p.answers[0]
	p.answers = p.answers[1:]
	return secret.New([]byte(answer))
}

func (p *person) Ask(_ context.Context, text string) (string, error) {
	p.note("Q %s", text)
	if len(p.chosen) == 0 {
		return "", ErrConversation
	}
	answer := p.chosen[0]
	p.chosen = p.chosen[1:]
	return answer, nil
}

func (p *person) TakeOver(context.Context, Item) (*secret.PIN, error) {
	if p.earlier == "" {
		return nil, nil
	}
	return secret.New([]byte(p.earlier))
}

func (p *person) Info(_ context.Context, text string) error {
	p.note("T %s", text)
	return nil
}

func (p *person) Error(_ context.Context, text string) error {
	p.note("E %s", text)
	return nil
}

func (p *person) Wait(_ context.Context, d time.Duration) error {
	p.note("W %s", d)
	return nil
}
