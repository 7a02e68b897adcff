package login

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/secret"
)

// person is a Conversation that answers from a script and notes what happens, in order: "P", "Q", "T" and
// "E" are what is shown, "W" is an announced wait.
type person struct {
	mu        sync.Mutex
	answers   []string
	earlier   string // the secret of an earlier module, "" for none
	events    []string
	chosen    []string      // answers to questions with echo; "number of NAME" reads the list
	deaf      bool          // takes no texts
	impatient bool          // lets nobody wait
	meanwhile []func()      // what happens while the prompts are open, one for each; nil is nothing
	chooses   func()        // done while a question with echo is open
	inserts   func()        // done when asked for a card; nil does not
	types     time.Duration // how long an answer takes
	given     []*secret.PIN
}

func (p *person) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, fmt.Sprintf(format, args...))
}

// heard returns what was noted, without the events of these kinds.
func (p *person) heard(without string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.events), func(e string) bool {
		return strings.ContainsRune(without, rune(e[0]))
	})
}

func (p *person) Prompt(_ context.Context, text string) (*secret.PIN, error) {
	p.note("P %s", text)
	if p.types > 0 {
		time.Sleep(p.types)
	}
	if len(p.meanwhile) > 0 {
		happen := p.meanwhile[0]
		p.meanwhile = p.meanwhile[1:]
		if happen != nil {
			happen()
		}
	}
	if len(p.answers) == 0 {
		return nil, ErrConversation
	}
	answer := p.answers[0]
	p.answers = p.answers[1:]
	return p.give(answer)
}

// give makes a PIN that must be wiped.
func (p *person) give(text string) (*secret.PIN, error) {
	pin, err := secret.New([]byte(text))
	if err == nil {
		p.given = append(p.given, pin)
	}
	return pin, err
}

// wiped reports whether nothing is left of the PINs that were given.
func (p *person) wiped() bool {
	for _, pin := range p.given {
		if pin.Len() > 0 {
			return false
		}
	}
	return true
}

func (p *person) Ask(_ context.Context, text string) (string, error) {
	p.note("Q %s", text)
	if p.chooses != nil {
		p.chooses()
	}
	if len(p.chosen) == 0 {
		return "", ErrConversation
	}
	answer := p.chosen[0]
	p.chosen = p.chosen[1:]
	if name, ok := strings.CutPrefix(answer, "number of "); ok {
		return numberOf(name, text), nil
	}
	return answer, nil
}

// numberOf reads a numbered list.
func numberOf(name, list string) string {
	for line := range strings.SplitSeq(list, "\n") {
		if number, rest, found := strings.Cut(line, ") "); found && strings.HasPrefix(rest, name) {
			return number
		}
	}
	return "not there"
}

func (p *person) TakeOver(context.Context, Item) (*secret.PIN, error) {
	if p.earlier == "" {
		return nil, nil
	}
	return p.give(p.earlier)
}

func (p *person) Info(_ context.Context, text string) error {
	p.note("T %s", text)
	if p.inserts != nil && strings.HasPrefix(text, "Please insert") {
		p.inserts()
	}
	return p.deafness()
}

func (p *person) Error(_ context.Context, text string) error {
	p.note("E %s", text)
	return p.deafness()
}

func (p *person) deafness() error {
	if p.deaf {
		return ErrConversation
	}
	return nil
}

func (p *person) Wait(_ context.Context, d time.Duration) error {
	p.note("W %s", d)
	if p.impatient && d > 0 {
		return ErrConversation
	}
	return nil
}
