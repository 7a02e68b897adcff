package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"pam_pkcs11/internal/logs"
	"pam_pkcs11/internal/metrics"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
)

// authenticator is what the worker needs of login.Authenticator.
type authenticator interface {
	Authenticate(ctx context.Context, r login.Request, conv login.Conversation) (*login.Result, error)
	ChangePIN(ctx context.Context, r login.Request, flags login.ChangeFlags, conv login.Conversation) error
}

// serve is the worker: it reads one request from the relay, decides it and sends the verdict.
func serve(relay io.ReadWriter, hostPID int, end func(code int)) {
	// Room for one frame: where a second one comes, nobody has waited for the first (watch).
	frames := make(chan frame, 1)
	h := &host{relay: relay, frames: frames, end: end}
	go watch(relay, frames, h.gone)
	// A host that is stopped, and not gone, never closes the socket: only the time ends its worker.
	life := newLifetime(longestLife, func() { end(1) })

	first, open := <-frames
	if !open {
		return
	}
	r, err := readRequest(first)
	if err != nil {
		slog.New(logs.Syslog("unknown", "auth")).Error("request of the PAM module refused", "error", err)
		return
	}

	r.HostPID = hostPID
	// Before this the log has no service and no process to write for.
	if err := h.serves(r); err != nil {
		return
	}

	decide(h, &conversation{out: relay, answers: frames, life: life})
}

// watch reads the socket for as long as the process lives. The host's end of it is the end of the
// worker, even while a PKCS#11 library is stuck in C; so is a frame for which nobody waits.
func watch(relay io.Reader, frames chan<- frame, end func(code int)) {
	// Also after a panic: a worker whose host nobody watches must not live.
	defer end(1)
	defer close(frames)

	for {
		f, err := readFrame(relay)
		if err != nil {
			return
		}
		select {
		case frames <- f:
		default:
			// It may hold a PIN.
			secret.Wipe(f.payload)
			return
		}
	}
}

// decide runs the request and sees to it that there is a verdict. A panic is a refusal.
func decide(h *host, conv *conversation) {
	h.conv = conv
	// A panic must not end the process without a verdict and a line in the log.
	defer func() {
		if v := recover(); v != nil {
			h.log.Error("internal fault", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			h.Deliver(nil, errors.New("internal fault"))
		}
	}()

	a := newAuthenticator(h.log, h.level, h)
	if h.request.change {
		h.Deliver(nil, change(a, h.request, conv))
		return
	}

	result, err := a.Authenticate(context.Background(), h.request.Request, conv)
	h.Deliver(result, err)
}

func change(a authenticator, r *request, conv *conversation) error {
	flags := login.ChangeFlags{
		Prelim:         r.flags&pamPrelimCheck != 0,
		ExpiredOnly:    r.flags&pamChangeExpired != 0,
		RootForAnother: r.rootForAnother,
	}
	return a.ChangePIN(context.Background(), r.Request, flags, conv)
}

// logger writes as pam_syslog would in the host.
func logger(r *request, level slog.Leveler) *slog.Logger {
	c := logs.Config{
		Service: r.Service,
		Kind:    kindOf(r),
		PID:     r.HostPID,
		Level:   level,
	}
	if os.Geteuid() == 0 {
		c.Last = logs.LastFile
	}
	return slog.New(logs.New(c))
}

func kindOf(r *request) string {
	if r.change {
		return "chauthtok"
	}
	return "auth"
}

// countTime bounds the wait for other logins that are counted at the same time. The host has its
// answer by then.
const countTime = 500 * time.Millisecond

// count adds a login to the file of metrics, as root only: a screen locker of a user may not write
// there. That it cannot changes no answer.
func count(log *slog.Logger, e login.Ended) {
	if os.Geteuid() != 0 {
		return
	}

	ctx, cancel := context.WithTimeout(context.Background(), countTime)
	defer cancel()
	err := metrics.Add(ctx, e.MetricsFile, metrics.Login{
		Service: e.Service,
		Outcome: e.Class,
		Reason:  e.Reason,
		Took:    e.Took,
	})
	if err != nil {
		log.Warn("the login was not counted", "metrics_file", e.MetricsFile, "error", err)
	}
}

// exit ends the process at once: no destructor of a PKCS#11 library runs.
func exit(code int) { os.Exit(code) }
