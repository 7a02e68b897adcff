package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"pam_pkcs11/internal/logs"
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
	frames := make(chan frame, 1)
	go watch(relay, frames, end)
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
	conv := &conversation{out: relay, answers: frames, life: life}
	verdict := decide(r, conv)
	defer secret.Wipe(verdict)
	if err := writeFrame(relay, verbVerdict, verdict); err != nil {
		logger(r, slog.LevelInfo).Error("verdict not delivered", "error", err)
	}
}

// watch reads the socket for as long as the process lives. The host's end of it is the end of the worker,
// even while a PKCS#11 library is stuck in C; so is a frame for which nobody waits.
func watch(relay io.Reader, frames chan<- frame, end func(code int)) {
	defer end(1) // also after a panic
	defer close(frames)
	for {
		f, err := readFrame(relay)
		if err != nil {
			return
		}
		select {
		case frames <- f:
		default:
			secret.Wipe(f.payload)
			return
		}
	}
}

// decide runs the request and encodes its verdict. A panic is a refusal.
func decide(r *request, conv *conversation) (verdict []byte) {
	level := new(slog.LevelVar)
	log := logger(r, level)
	defer func() {
		if v := recover(); v != nil {
			log.Error("internal fault", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			verdict = appendField(nil, tagCode, []byte{code(login.ClassUnavailable, r.change)})
		}
	}()
	a := newAuthenticator(log, level)
	if r.change {
		return change(a, r, conv)
	}
	return authenticate(a, r, conv, log)
}

func authenticate(a authenticator, r *request, conv *conversation, log *slog.Logger) []byte {
	result, err := a.Authenticate(context.Background(), r.Request, conv)
	if err != nil {
		return refusal(err, r.change, conv)
	}
	defer result.Forward.Wipe()
	v := appendField(nil, tagCode, []byte{code(login.ClassSuccess, false)})
	v = appendField(v, tagFoundUser, []byte(result.User))
	for name, value := range result.Variables {
		if entry := fit(name + "=" + value); len(entry) <= 4096 {
			v = appendField(v, tagVariable, entry)
		} else {
			log.Warn("variable too long, not set", "name", name)
		}
	}
	if result.Forward.Len() > 0 {
		v = appendField(v, tagAuthtok, result.Forward.Bytes())
	}
	return v
}

func change(a authenticator, r *request, conv *conversation) []byte {
	flags := login.ChangeFlags{
		Prelim:         r.flags&pamPrelimCheck != 0,
		ExpiredOnly:    r.flags&pamChangeExpired != 0,
		RootForAnother: r.rootForAnother,
	}
	if err := a.ChangePIN(context.Background(), r.Request, flags, conv); err != nil {
		return refusal(err, true, conv)
	}
	return appendField(nil, tagCode, []byte{code(login.ClassSuccess, true)})
}

// refusal is the verdict of an error. Nothing but a *login.Refusal can be more than a fault.
func refusal(err error, change bool, conv *conversation) []byte {
	class := login.ClassUnavailable
	var r *login.Refusal
	if errors.As(err, &r) && r.Class() != login.ClassSuccess {
		class = r.Class()
	}
	c := code(class, change)
	if c == pamIgnore && conv.asked {
		c = code(login.ClassUnavailable, change)
	}
	return appendField(nil, tagCode, []byte{c})
}

// logger writes as pam_syslog would in the host.
func logger(r *request, level slog.Leveler) *slog.Logger {
	return slog.New(logs.New(logs.Config{Service: r.Service, Kind: kindOf(r), PID: r.HostPID, Level: level}))
}

func kindOf(r *request) string {
	if r.change {
		return "chauthtok"
	}
	return "auth"
}

// exit ends the process at once: no destructor of a PKCS#11 library runs.
func exit(code int) { os.Exit(code) }
