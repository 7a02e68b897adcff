package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"pam_pkcs11/config"
	"pam_pkcs11/login"
	"pam_pkcs11/login/cards"
	"pam_pkcs11/pcsc/access"
	"pam_pkcs11/pkcs11"
	"pam_pkcs11/token"
)

// The jobs of a child.
const (
	jobLibrary = "library"
	jobCards   = "cards"
	jobDaemon  = "daemon"
)

// Answer is what a child found.
type Answer struct {
	Library *token.Library `json:",omitempty"` // who made it, of Library
	Slots   []Slot         `json:",omitempty"`
	Failure *Failure       `json:",omitempty"` // why it could not be looked at any further
}

// Failure is an error of the child's.
type Failure struct {
	Text string
	Kind Kind
}

// Error is what the error of the child said.
func (f *Failure) Error() string { return f.Text }

// Kind is what an error means, of those of package token.
type Kind string

// The kinds.
const (
	KindOther      Kind = "other"
	KindNoService  Kind = "no service"  // no daemon for the readers
	KindInUse      Kind = "in use"      // another program has the card or its reader
	KindNotStarted Kind = "not started" // the library is there, and C_Initialize fails
	KindForeign    Kind = "foreign"     // the card is none of the module's
	KindConfig     Kind = "config"      // the configuration
	KindRefused    Kind = "refused"     // the daemon does not want this user
)

// Slot is a place for a card.
type Slot struct {
	Index       int // from 1
	Block       int // of the configuration, from 0
	Description string
	Present     bool
	Fit         token.Fit // with the configuration's selection; of Library with none
	Why         string    // in words
	Failure     *Failure  `json:",omitempty"` // why its card cannot be read
	Card        *Card     `json:",omitempty"`
}

// Card is what a card says without a PIN.
type Card struct {
	Label, Manufacturer, Model, Serial string

	Initialized  bool
	PIN          token.PIN
	Certificates []Certificate `json:",omitempty"`
	// why its certificates could not be read, or not all
	Failure *Failure `json:",omitempty"`

	NoPUK string // why its PIN cannot be unblocked here; "" where it can
}

// Certificate is one that a card shows.
type Certificate struct {
	Label string
	DER   []byte
	Error string // why it cannot be used
}

// Main is the child: args as in os.Args. ok is false where the program was not called to be one.
func Main(args []string) (code int, ok bool) {
	if len(args) < 4 || args[1] != Word {
		return 0, false
	}
	runtime.LockOSThread() // PKCS#11 libraries keep state by thread

	answer, err := do(args[2], args[3], args[4:])
	if err != nil {
		answer = &Answer{Failure: failure(err)}
	}

	out := os.NewFile(answerFD, "answer")
	if out == nil || json.NewEncoder(out).Encode(answer) != nil {
		return 1, true
	}
	_ = out.Close()
	return 0, true
}

// do does a job. What it opens ends with the process: the answer does not wait for it.
func do(job, argument string, variables []string) (*Answer, error) {
	switch job {
	case jobLibrary:
		return lookAtLibrary(argument, variables)
	case jobCards:
		return lookAtCards(argument)
	case jobDaemon:
		return lookAtDaemon(argument)
	}
	return nil, fmt.Errorf("%q is no job", job)
}

// lookAtLibrary loads a library, as a login does, and lists its slots.
func lookAtLibrary(path string, variables []string) (*Answer, error) {
	library, err := pkcs11.Load(path, pkcs11.Options{OSLocking: true, Environment: variables})
	if err != nil {
		return nil, err
	}

	a := &Answer{}
	info, err := library.Info()
	if err != nil {
		return nil, err
	}
	a.Library = &token.Library{
		Manufacturer: info.Manufacturer,
		Description:  info.Description,
		Major:        info.Major,
		Minor:        info.Minor,
	}

	// A library without slots has still told what it is: the answer has both.
	slots, err := library.Cards().Slots(context.Background())
	if err != nil {
		a.Failure = failure(err)
	}
	for i := range slots {
		a.Slots = append(a.Slots, slotOf(&slots[i], token.Selector{}.Judge))
	}
	return a, nil
}

// lookAtCards opens the sources of a configuration and reads the cards that a login would take.
func lookAtCards(file string) (*Answer, error) {
	ctx := context.Background()
	conf, err := config.Load(&config.Arguments{ConfigFile: file})
	if err != nil {
		return &Answer{Failure: &Failure{Text: err.Error(), Kind: KindConfig}}, nil
	}
	selectors, err := login.CardSelection(conf)
	if err != nil {
		return &Answer{Failure: &Failure{Text: err.Error(), Kind: KindConfig}}, nil
	}

	module, err := cards.System{Tool: true}.Open(conf, token.Options{})
	if err != nil {
		return nil, err
	}

	slots, err := module.Slots(ctx)
	if err != nil {
		return nil, err
	}

	a := &Answer{}
	for i := range slots {
		slot := slotOf(&slots[i], selectors.Judge)
		// Only those that a login would take: opening others could disturb the programs that use
		// them.
		if slot.Fit == token.Fits {
			readCard(ctx, module, slots[i], slot.Card)
		}
		a.Slots = append(a.Slots, slot)
	}
	return a, nil
}

// lookAtDaemon connects to a daemon for readers.
func lookAtDaemon(socket string) (*Answer, error) {
	_, _, err := access.Find(context.Background(),
		access.Options{Mode: access.System, Sockets: []string{socket}})
	if err == nil {
		return &Answer{}, nil
	}

	f := failure(err)

	// An error that is about this user only: others may be let in.
	var e *access.Error
	aboutUser := []access.Reason{access.Denied, access.Closed, access.Refused}
	if errors.As(err, &e) && slices.Contains(aboutUser, e.Reason) {
		f.Kind = KindRefused
	}
	return &Answer{Failure: f}, nil
}

// slotOf describes a slot.
func slotOf(s *token.Slot, fits func(*token.Slot) (token.Fit, string)) Slot {
	described := Slot{Index: s.Index, Block: s.Block, Present: s.TokenPresent}
	described.Fit, described.Why = fits(s)

	if s.Describe() == nil {
		described.Description = s.Description
	}
	if s.Err != nil {
		described.Failure = failure(s.Err)
	}

	if t := s.Token; t != nil {
		described.Card = &Card{
			Label:        t.Label,
			Manufacturer: t.Manufacturer,
			Model:        t.Model,
			Serial:       t.Serial,
			Initialized:  t.Initialized,
			PIN:          t.PIN,
		}
	}
	return described
}

// readCard reads the certificates of a card, and what it says of its PIN once it is open.
func readCard(ctx context.Context, module token.Module, slot token.Slot, card *Card) {
	session, err := module.Open(ctx, slot)
	if err != nil {
		card.Failure = failure(err)
		return
	}
	defer session.Close()

	for o, err := range session.Certificates(ctx) {
		if err != nil {
			card.Failure = failure(err)
			break
		}
		// Of one that cannot be read the bytes are handed over as they are.
		c := Certificate{Label: o.Label, DER: o.Value}
		switch {
		case o.Err != nil:
			c.Error = o.Err.Error()
		case o.Cert != nil:
			c.DER = o.Cert.Raw
		}
		card.Certificates = append(card.Certificates, c)
	}
	// Of the open session: only that may have asked the card.

	card.PIN = session.Info().PIN
	card.NoPUK = noPUK(ctx, session)
}

// noPUK is why a PIN cannot be unblocked; "" where it can.
func noPUK(ctx context.Context, s token.Session) string {
	teller, ok := s.(token.PUKTeller)
	if !ok {
		return "the card does not tell"
	}

	puk, err := teller.PUK(ctx)
	switch {
	case err != nil:
		return err.Error()
	case puk.Tries.Level == token.Locked:
		return "its PUK is locked too"
	}
	return ""
}

// failure is an error for the other side.
func failure(err error) *Failure {
	f := &Failure{Text: err.Error(), Kind: KindOther}
	// The other side has no values of errors to compare: a word stands for each that it asks for.
	for _, row := range []struct {
		is   error
		kind Kind
	}{
		{token.ErrNoService, KindNoService},
		{token.ErrInUse, KindInUse},
		{token.ErrNotStarted, KindNotStarted},
		{token.ErrForeign, KindForeign},
	} {
		if errors.Is(err, row.is) {
			f.Kind = row.kind
			break
		}
	}
	return f
}
