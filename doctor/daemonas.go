package doctor

import (
	"context"
	"strconv"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/probe"
)

// daemonAs asks the daemon as another user.
func daemonAs(ctx context.Context, socket string, uid int) diagnosis.Findings {
	answer, err := probe.Daemon(ctx, socket, uid)
	subject := "uid " + strconv.Itoa(uid)
	switch {
	case err != nil:
		return list(notLooked(subject, message.Textf("the daemon for card readers could not be asked as this user: %v", err)))
	case answer.Failure != nil && answer.Failure.Kind == probe.KindRefused:
		return list(warn("daemon-refuses-user", subject,
			message.Textf("the daemon for card readers does not let this user in: screen lockers that run as the user cannot use the card (%s)",
				printable(answer.Failure.Text)), letIn(uid)))
	case answer.Failure != nil:
		return nil // it refuses everybody, which is told already
	}
	return list(good("daemon-admits-user", subject, message.Textf("the daemon for card readers lets this user in")))
}

// activeSession reads a file of /run/systemd/sessions: whose session it is, and whether it is active and local.
func activeSession(text string) (uid int, active bool) {
	local := true
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "UID":
			n, err := strconv.Atoi(value)
			if err != nil {
				return -1, false
			}
			uid = n
		case "ACTIVE":
			active = value == "1"
		case "REMOTE":
			local = value != "1"
		}
	}
	return uid, active && local
}
