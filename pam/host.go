package main

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
)

const (
	// confirmLimit is how long the host may take for the word that a verdict has taken effect.
	// Nothing that waits for a person lies between the two.
	confirmLimit = 5 * time.Second

	// finalizeLimit is how long the PKCS#11 library may take to end, once the host has its answer
	// and the log its line. The card is locked and its session closed by then.
	finalizeLimit = 3 * time.Second
)

// host is the relay, as far as the verdict goes. It implements login.Host.
type host struct {
	relay   io.ReadWriter
	frames  <-chan frame // of watch; closed when the host is gone
	end     func(code int)
	request *request
	conv    *conversation
	level   *slog.LevelVar
	log     *slog.Logger
	notes   *notes // nil where the relay takes none

	required bool // the user must use a card

	asks     atomic.Pointer[func()] // writes that the host has gone; nil before the request is read
	leaving  atomic.Bool            // from the verdict on the end of the host is not that of the worker
	deliver  sync.Once
	delivery login.Delivery
}

// serves takes the request, and begins to note what happens to it.
func (h *host) serves(r *request) error {
	h.request = r
	h.level = new(slog.LevelVar)
	h.log = logger(r, h.level)

	say := func() {
		h.log.Info("request given up: the program that asked has ended, or has closed it", "user", r.User)
	}
	h.asks.Store(&say)

	// An older relay does not know the frame.
	if r.relayCan&canTakeNotes == 0 {
		return nil
	}

	var err error
	h.notes, err = sendNotes(h.relay)
	return err
}

// require notes that this user must use a card, and tells it the relay: should this process end
// without a verdict, that is to leave no other way in.
func (h *host) require() {
	h.required = true
	if h.request.relayCan&canRequire == 0 {
		h.log.Warn("the program that asked has an older module: a crash would not be told from a missing card", "user", h.request.User)
		return
	}

	if err := writeFrame(h.relay, verbRequired); err != nil {
		h.log.Debug("requirement not sent", "error", err)
	}
}

// gone ends the process when the host is not there any more. After the verdict that is the host's
// right, and what is left to do has a limit of its own.
func (h *host) gone(code int) {
	if h.leaving.Load() {
		return
	}
	if say := h.asks.Load(); say != nil {
		(*say)()
	}
	h.end(code)
}

// Confirms implements login.Host.
func (h *host) Confirms() bool { return h.request.relayCan&canConfirm != 0 }

// Deliver implements login.Host. Only the first answer counts: the panic of a library's end is
// none.
func (h *host) Deliver(result *login.Result, err error) login.Delivery {
	h.deliver.Do(func() { h.delivery = h.send(result, err) })
	return h.delivery
}

func (h *host) send(result *login.Result, err error) login.Delivery {
	v := h.verdict(result, err)
	defer secret.Wipe(v)
	// From here on the host may go: that is no reason to end this process before its work is done.
	h.leaving.Store(true)
	if lost := writeFrame(h.relay, verbVerdict, v); lost != nil {
		h.log.Debug("verdict not sent", "error", lost)
		return login.Lost
	}

	if !h.Confirms() {
		return login.Unconfirmed
	}
	if err != nil {
		// A refusal that the host does not hear refuses as well.
		return login.Taken
	}

	return h.confirmed()
}

// confirmed waits for the word of the host that the verdict has taken effect.
func (h *host) confirmed() login.Delivery {
	select {
	case f, open := <-h.frames:
		switch {
		// The stream has ended: the host was gone before it could act.
		case !open:
			return login.Lost
		case f.verb == verbTaken && len(f.payload) == 1 && f.payload[0] == 1:
			return login.Taken
		}
		secret.Wipe(f.payload)
		return login.Declined
	case <-time.After(confirmLimit):
		return login.Unconfirmed
	}
}

// Done implements login.Host. The relay waits for the end of the stream before it returns to the
// host.
func (h *host) Done() {
	if c, ok := h.relay.(interface{ CloseWrite() error }); ok {
		if err := c.CloseWrite(); err != nil {
			h.log.Debug("socket not closed", "error", err)
		}
	}

	// The host has its answer by now: only a library that hangs keeps this process.
	time.AfterFunc(finalizeLimit, func() {
		h.log.Warn("PKCS#11 library not finalised", "error", "it took longer than "+finalizeLimit.String())
		h.end(1)
	})
}

// verdict encodes an answer. A secret in it is the caller's to wipe.
func (h *host) verdict(result *login.Result, err error) []byte {
	r := h.request
	switch {
	case err != nil || !r.change && result == nil:
		return h.refusal(err)
	case r.change:
		return appendField(nil, tagCode, []byte{code(login.ClassSuccess, true)})
	}

	defer result.Forward.Wipe()
	v := appendField(nil, tagCode, []byte{code(login.ClassSuccess, false)})
	v = appendField(v, tagFoundUser, []byte(result.User))

	for name, value := range result.Variables {
		if entry := fit(name + "=" + value); len(entry) <= 4096 {
			v = appendField(v, tagVariable, entry)
		} else {
			h.log.Warn("variable too long, not set", "name", name)
		}
	}

	if result.Forward.Len() > 0 {
		v = appendField(v, tagAuthtok, result.Forward.Bytes())
	}
	return v
}

// refusal is the verdict of an error. Nothing but a *login.Refusal can be more than a fault.
func (h *host) refusal(err error) []byte {
	change := h.request.change
	class := login.ClassUnavailable
	var r *login.Refusal
	// An error is never a success, whatever it says of itself.
	if errors.As(err, &r) && r.Class() != login.ClassSuccess {
		class = r.Class()
	}

	c := code(class, change)
	// PAM_IGNORE would have the stack go on as if nobody had been asked.
	if c == pamIgnore && h.conv.asked {
		c = code(login.ClassUnavailable, change)
	}

	// Nobody knows whom a fault keeps from being asked for his card: with fail_closed it refuses.
	faulty := r == nil && slices.Contains(h.request.Args, config.FailClosed)
	if (h.required || faulty) && !change {
		c = code(login.ClassInsufficient, change)
	}

	return appendField(nil, tagCode, []byte{c})
}
