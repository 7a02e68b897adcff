//go:build !hosttest

package main

import (
	"log/slog"

	"pam_pkcs11/login"
	"pam_pkcs11/login/cards"
)

// newAuthenticator binds the worker to the login wing. Its accounts and the question whether the
// session is remote are the system's.
func newAuthenticator(log *slog.Logger, level *slog.LevelVar, h *host) authenticator {
	return &login.Authenticator{
		Cards:    cards.System{Host: h.request.HostPID},
		Logger:   log,
		Level:    level,
		Host:     h,
		Progress: h.notes.at,
		Required: h.require,
		Ended:    func(e login.Ended) { count(log, e) },
	}
}
