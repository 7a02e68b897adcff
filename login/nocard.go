package login

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/token"
)

// readerService is where pcscd listens, unless PCSCLITE_CSOCK_NAME says otherwise, as libpcsclite
// has it.
const readerService = "/run/pcscd/pcscd.comm"

// maxNamedSlots bounds how many slots a line of the log describes.
const maxNamedSlots = 8

// NoCardError is why no slot holds a token that may be used. It implements error.
type NoCardError struct {
	Fit     token.Fit // what came nearest: Fits stands for a library without a slot
	Service error     // why the daemon of the readers cannot be reached, where that was asked
	Detail  string
}

// Error returns what was found in the slots.
func (e *NoCardError) Error() string { return e.Detail }

// Unwrap returns why the daemon cannot be reached.
func (e *NoCardError) Unwrap() error { return e.Service }

// ExplainNoCard says of slots of which the selectors of a configuration take none why that is so.
func ExplainNoCard(conf *config.Config, s token.Selectors, slots []token.Slot) *NoCardError {
	switch {
	case len(slots) > 0:
	case conf.Module.Builtin: // whose daemon has answered
		return &NoCardError{Detail: "no reader is connected"}
	default:
		return explainNoSlot(reachReaderService())
	}

	e := &NoCardError{Fit: token.Empty}
	var found []string
	for i := range slots {
		fit, why := s.Judge(&slots[i])
		// What came nearest decides which sentence the user sees.
		e.Fit = max(e.Fit, fit)
		found = append(found, slotName(&slots[i])+": "+why)
	}

	if more := len(found) - maxNamedSlots; more > 0 {
		found = append(found[:maxNamedSlots], fmt.Sprintf("and %d more", more))
	}

	e.Detail = "no slot holds a usable token: " + strings.Join(found, "; ")
	return e
}

func slotName(s *token.Slot) string {
	if s.Describe() != nil || s.Description == "" {
		return fmt.Sprintf("slot %d", s.Index)
	}
	return fmt.Sprintf("slot %d (%s)", s.Index, s.Description)
}

// firstError is why the first card that cannot be read cannot be; it is of this module's kind.
func firstError(slots []token.Slot) error {
	for _, s := range slots {
		if s.Err == nil || errors.Is(s.Err, token.ErrForeign) || errors.Is(s.Err, token.ErrSkipped) {
			continue
		}
		return s.Err
	}
	return nil
}

// explainNoSlot: a library that shows no slot at all has found no reader, or nobody to ask for one.
func explainNoSlot(service error) *NoCardError {
	if service == nil {
		return &NoCardError{Detail: "the library shows no slot: no reader is connected, or none that it knows"}
	}
	return &NoCardError{
		Service: service,
		Detail: "the library shows no slot, and the daemon of the readers cannot be reached: " + service.Error() +
			" (is pcscd, or pcscd.socket, started?)",
	}
}

// reachReaderService tries whether somebody answers at the socket of the readers' daemon.
func reachReaderService() error {
	path := os.Getenv("PCSCLITE_CSOCK_NAME")
	if path == "" {
		path = readerService
	}

	// Connecting is enough: systemd listens for a daemon that it has not started yet.
	conn, err := net.DialTimeout("unix", path, 200*time.Millisecond)
	if err != nil {
		return err
	}
	return conn.Close()
}

// noCard refuses a request for which no slot holds a usable token. after says how long it was
// waited for.
func (t *attempt) noCard(slots []token.Slot, after string) *Refusal {
	why := ExplainNoCard(t.conf, t.selection, slots)

	err := error(why)
	// The user may have a good card in the reader, but not the one that opened the session.
	if t.token != "" && why.Fit == token.Another {
		err = fmt.Errorf("the session was opened with another card, %q (PKCS11_LOGIN_TOKEN_NAME): %w", t.token, err)
	}

	if after != "" {
		err = fmt.Errorf("%s: %w", after, err)
	}

	r := refuse(NoCard, err)
	// A token that is not initialised may be a library's free slot: for the user there is no card.
	switch {
	case why.Service != nil:
		r.sentence = MsgNoReaderService
	case len(slots) == 0:
		r.sentence = MsgNoReader
	case why.Fit == token.Unreadable:
		// A card is there: that it cannot be read is another outcome than that there is none.
		r.Outcome = TokenUnreadable
		r.sentence = faultRefusal(TokenUnreadable, firstError(slots)).sentence
		if t.mode() == ModeRefuse {
			r.Restore = "foreign_card = skip"
		}
	case why.Fit == token.Another:
		r.sentence = MsgNoSuitableCard
	}
	return r
}

// noReaders refuses a request because the daemon of the readers, or they themselves, cannot be
// used: without readers there is no card. nil is another error.
func noReaders(err error) *Refusal {
	sentence := MsgNoReaderService
	switch {
	case errors.Is(err, token.ErrNoService):
	case errors.Is(err, token.ErrInUse):
		sentence = MsgReaderHeld
	default:
		return nil
	}
	return &Refusal{Outcome: NoCard, Err: err, sentence: sentence}
}
