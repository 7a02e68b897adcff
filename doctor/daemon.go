package doctor

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/probe"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/access"
)

// socketVariable names another daemon to libpcsclite. A login's worker does not see it.
const socketVariable = "PCSCLITE_CSOCK_NAME"

// wanted is a daemon for readers that a login may use.
type wanted struct {
	socket string // of the system's daemon
	mode   access.Mode
}

// daemons are those that the blocks of the configuration use; without one, that of a login with the
// built-in card.
func (m *Machine) daemons() []wanted {
	if m.Config == nil {
		return []wanted{{socket: m.Path(pcsc.DefaultSocket), mode: access.Auto}}
	}

	var all []wanted
	for _, module := range m.Config.Modules {
		w := wanted{socket: module.PCSCSocket, mode: access.Auto}
		if w.socket == "" {
			w.socket = m.Path(pcsc.DefaultSocket)
		}

		switch {
		case module.CardAccess == "bundled":
			w.mode = access.Bundled
		case module.CardAccess == "system", !module.Builtin && module.CardAccess == "":
			w.mode = access.System // a library finds it by itself
		}
		// Blocks of one configuration mostly share a daemon: it is asked once.
		if !slices.Contains(all, w) {
			all = append(all, w)
		}
	}
	return all
}

// checkDaemon asks whether a daemon for readers answers where a login looks for it. It starts none.
func checkDaemon(ctx context.Context, m *Machine) diagnosis.Findings {
	var found diagnosis.Findings
	for _, w := range m.daemons() {
		if w.mode == access.Bundled {
			found.Add(m.bundled(ctx))
			continue
		}

		_, daemon, err := access.Find(ctx,
			access.Options{Mode: access.System, Sockets: []string{w.socket}})
		switch {
		case err == nil:
			found.Add(good("daemon", w.socket,
				message.Textf("the daemon for card readers answers (pid %d, uid %d)", daemon.PID,
					daemon.UID)))
		// Only a daemon that is not there has the login fall back to the bundled one.
		case w.mode == access.Auto && isAbsent(err):
			found.Add(m.bundled(ctx))
		default:
			found.Add(daemonFault(w.socket, err))
		}
	}
	return found
}

// isAbsent reports whether an error says that there is no daemon.
func isAbsent(err error) bool {
	var e *access.Error
	return errors.As(err, &e) &&
		slices.Contains([]access.Reason{access.NoSocket, access.Dead, access.Ended}, e.Reason)
}

// bundled looks for the daemon that comes with the module, which a root's login starts.
func (m *Machine) bundled(ctx context.Context) diagnosis.Finding {
	const id = "daemon-bundled"
	socket := m.Path(pcsc.BundledSocket)
	program := m.Path(access.Program)

	switch _, err := os.Stat(program); {
	case err != nil:
		return refuse("daemon-missing", program,
			message.Textf(
				"no daemon for card readers runs, and the one that a login would start cannot be used: %v", err),
			message.Textf(
				"run: systemctl enable --now pcscd.socket; where there is none, install a daemon (Debian: apt install pcscd)"))
	case !isRoot():
		return note(id, program, message.Textf(
			"no system daemon runs; logins of root's programs start the bundled one, others have none"))
	}

	_, daemon, err := access.Find(ctx,
		access.Options{Mode: access.System, Sockets: []string{socket}})
	switch {
	case err == nil:
		return good(id, socket, message.Textf(
			"the bundled daemon for card readers answers (pid %d, uid %d)", daemon.PID, daemon.UID))
	case isAbsent(err):
		return good(id, program, message.Textf(
			"no daemon for card readers runs now, and a login starts the bundled one"))
	}
	return daemonFault(socket, err)
}

// daemonFault says why a daemon is not used.
func daemonFault(socket string, err error) diagnosis.Finding {
	var e *access.Error
	if !errors.As(err, &e) {
		return refuse("daemon-fails", socket,
			message.Textf("the daemon for card readers cannot be used: %v", err),
			message.Textf("run: journalctl -u pcscd"))
	}

	restart := message.Textf(
		"run: systemctl restart pcscd.socket pcscd.service; then: systemctl enable pcscd.socket")
	switch e.Reason {
	case access.NoSocket:
		return refuse("daemon-missing", socket,
			message.Textf("no daemon for card readers: there is no socket (%v)", syscall.ENOENT),
			message.Textf(
				"run: systemctl enable --now pcscd.socket; where there is none, install a daemon (Debian: apt install pcscd)"))
	case access.Dead:
		return refuse("daemon-dead", socket,
			message.Textf(
				"no daemon for card readers: its socket is there, and nobody listens on it (%v)",
				syscall.ECONNREFUSED), restart)
	case access.Ended:
		return refuse("daemon-ended", socket,
			message.Textf(
				"no daemon for card readers: connections are closed at once, so that its service does not start"),
			message.Textf("run: systemctl status pcscd.service"))
	case access.Silent:
		return refuse("daemon-silent", socket,
			message.Textf("the daemon for card readers does not answer: %v", err), restart)
	case access.Denied, access.Closed:
		return warn("daemon-refuses", socket,
			message.Textf("the daemon for card readers refuses the user %d: %v", os.Geteuid(), err),
			letIn(os.Geteuid()))
	case access.Foreign:
		return refuse("daemon-foreign", socket,
			message.Textf("a PIN would go to a process that is neither root's nor the daemon's: %v",
				err),
			message.Textf(
				"end that process, and start the daemon of the system: systemctl restart pcscd.socket"))
	case access.Held:
		return refuse("readers-held", socket,
			message.Textf("another program has the readers: %s", strings.Join(e.Readers, "; ")),
			message.Textf(
				"end that program, or let it use the daemon (scdaemon: put disable-ccid into ~/.gnupg/scdaemon.conf)"))
	}

	return refuse("daemon-fails", socket,
		message.Textf("the daemon for card readers cannot be used: %v", err),
		message.Textf("run: journalctl -u pcscd"))
}

// letIn says how a user is admitted to a daemon.
func letIn(uid int) message.Text {
	return message.Textf(
		"log in at the machine itself, or let uid %d in: pcscd.conf(5) of our daemon, or a rule of polkit for "+
			"org.debian.pcsc-lite.access_pcsc and access_card", uid)
}

// checkDaemons looks for a second daemon, and for an environment that leads this user's programs to
// another one.
func checkDaemons(_ context.Context, m *Machine) diagnosis.Findings {
	var found diagnosis.Findings
	// The variable works in this terminal, so that cards seem to be there which no login finds.
	if name := os.Getenv(socketVariable); name != "" && m.Live() {
		known := slices.ContainsFunc(m.daemons(), func(w wanted) bool { return w.socket == name })
		if !known {
			found.Add(warn("daemon-variable", socketVariable,
				message.Textf(
					"programs of this terminal use the daemon at %s, and a login does not see that variable", printable(name)),
				message.Textf(
					"run: unset PCSCLITE_CSOCK_NAME, or write pcsc_socket into the configuration")))
		}
	}

	// A login asks one of them only, and the readers may be with the other.
	var running []process
	for _, p := range m.processes() {
		if p.name == "pcscd" {
			running = append(running, p)
		}
	}

	if len(running) > 1 {
		found.Add(warn("daemon-twice", named(running),
			message.Textf(
				"%d daemons for card readers run: a reader is only one's, and the other has none",
				len(running)),
			message.Textf("keep one of them: systemctl status %d and %d name their services",
				running[0].pid, running[1].pid)))
	}
	return found
}

// daemonAs asks the daemon as another user.
func daemonAs(ctx context.Context, socket string, uid int) diagnosis.Findings {
	answer, err := probe.Daemon(ctx, socket, uid)
	subject := "uid " + strconv.Itoa(uid)

	switch {
	case err != nil:
		return list(notLooked(subject,
			message.Textf("the daemon for card readers could not be asked as this user: %v", err)))
	case answer.Failure != nil && answer.Failure.Kind == probe.KindRefused:
		return list(warn("daemon-refuses-user", subject,
			message.Textf(
				"the daemon for card readers does not let this user in: screen lockers that run as the user cannot use the card (%s)",
				printable(answer.Failure.Text)), letIn(uid)))
	case answer.Failure != nil:
		return nil // it refuses everybody, which is told already
	}
	return list(good("daemon-admits-user", subject,
		message.Textf("the daemon for card readers lets this user in")))
}

// activeSession reads a file of /run/systemd/sessions: whose session it is, and whether it is
// active and local.
func activeSession(text string) (uid int, active bool) {
	local := true
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")

		switch key {
		case "UID":
			// An account that cannot be told is nobody's: then the session does not count.
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
