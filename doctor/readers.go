package doctor

import (
	"context"
	"errors"
	"path"
	"slices"
	"strings"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/access"
)

// readerChecks are those of what is between a card and the sources of cards.
func readerChecks() []Check {
	return []Check{
		{ID: "usb", Title: message.Textf("Card readers on USB"), Run: checkUSB},
		{ID: "daemon", Title: message.Textf("The daemon for card readers"), Run: checkDaemon},
		{ID: "daemon-others", Title: message.Textf("Other daemons for card readers"),
			Run: checkDaemons},
		{ID: "daemon-access", Title: message.Textf("Who may use the daemon for card readers"),
			Run: checkAccess},
		{ID: "readers", Title: message.Textf("Readers and cards, as the daemon has them"),
			Run: checkReaders},
	}
}

// answering is the service of the first daemon that answers; nil where none does, which is another
// check's to say.
func (m *Machine) answering(ctx context.Context) (pcsc.Service, string) {
	var sockets []string
	for _, w := range m.daemons() {
		if w.mode != access.Bundled {
			sockets = append(sockets, w.socket)
		}
	}
	// The bundled daemon serves root's programs only.
	if isRoot() {
		sockets = append(sockets, m.Path(pcsc.BundledSocket))
	}

	for _, socket := range sockets {
		service, _, err := access.Find(ctx,
			access.Options{Mode: access.System, Sockets: []string{socket}})
		if err == nil {
			return service, socket
		}
	}
	return nil, ""
}

// checkReaders asks the daemon for its readers and what is in them, and compares them with those on
// USB.
func checkReaders(ctx context.Context, m *Machine) diagnosis.Findings {
	service, socket := m.answering(ctx)
	if service == nil {
		return list(notLooked("readers",
			message.Textf("no daemon for card readers answers, which is asked for them")))
	}

	c, err := pcsc.NewContext(service)
	if err != nil {
		return list(daemonFault(socket, err))
	}
	defer c.Release()

	names, err := c.ListReaders()
	if err != nil && !errors.Is(err, pcsc.ErrNoReadersAvailable) {
		return list(daemonFault(socket, err))
	}

	found := m.unlisted(names)
	for _, name := range names {
		found.Add(m.readerState(ctx, c, name))
	}

	// A reader on USB that the daemon does not have is named already.
	if len(names) == 0 && len(found) == 0 {
		found.Add(warn("reader-missing", socket, message.Textf("the daemon has no reader"),
			message.Textf("plug a reader in")))
	}
	return found
}

// unlisted says which readers on USB a daemon without readers does not have, and why. Names of
// devices and of readers cannot be compared: where the daemon has one at all, nothing is said.
func (m *Machine) unlisted(names []string) diagnosis.Findings {
	if len(names) > 0 {
		return nil
	}

	var found diagnosis.Findings
	for _, d := range m.readers() {
		holders := m.holding(d)
		switch {
		case len(holders) > 0:
			found.Add(warn("reader-held", d.String(),
				message.Textf("the daemon does not have the reader: %s has it open",
					named(holders)),
				message.Textf(
					"end that program, or let it use the daemon (scdaemon: put disable-ccid into ~/.gnupg/scdaemon.conf)")))
		default:
			found.Add(warn("reader-not-driven", d.String(),
				message.Textf("the reader is on USB, and the daemon does not have it"),
				message.Textf(
					"install its driver (Debian: apt install libccid), and run: systemctl restart pcscd.service; "+
						"journalctl -u pcscd says what went wrong")))
		}
	}
	return found
}

// holding are the processes, daemons left out, that have a device open.
func (m *Machine) holding(d usbDevice) []process {
	var some []process
	for _, p := range m.processes() {
		if !strings.HasPrefix(p.name, "pcscd") &&
			m.opens(p, func(target string) bool { return target == d.node }) {
			some = append(some, p)
		}
	}
	return some
}

// readerState says what is in a reader.
func (m *Machine) readerState(ctx context.Context, c *pcsc.Context, name string) diagnosis.Finding {
	states := []pcsc.ReaderState{{Reader: name}}
	subject := printable(name)

	// With a time of 0 the state of now is answered: a timeout is no fault.
	err := c.GetStatusChangeContext(ctx, states, 0)
	if err != nil && !errors.Is(err, pcsc.ErrTimeout) {
		return warn("reader-fails", subject, message.Textf("the reader does not answer: %v", err),
			message.Textf("unplug it and plug it in again"))
	}

	state := states[0].EventState
	switch {
	case state&(pcsc.StateUnknown|pcsc.StateUnavailable) != 0:
		return warn("reader-fails", subject, message.Textf("the reader does not answer"),
			message.Textf("unplug it and plug it in again"))
	case state&pcsc.StateMute != 0:
		return warn("card-mute", subject,
			message.Textf("there is a card in the reader that does not answer"),
			message.Textf(
				"put the card in the right way round, chip first, and clean its contacts"))
	case state&pcsc.StateExclusive != 0:
		return m.heldCard(subject)
	case state&pcsc.StatePresent == 0:
		return note("reader-empty", subject, message.Textf("there is no card in the reader"))
	}

	return good("reader", subject,
		message.Textf("there is a card in the reader, with the ATR % X", states[0].ATR))
}

// heldCard says who keeps a card for himself (SCARD_E_SHARING_VIOLATION), as far as processes tell.
func (m *Machine) heldCard(reader string) diagnosis.Finding {
	const id = "card-held"
	remedy := message.Textf(
		"end that program; scdaemon shares the card with pcsc-shared in ~/.gnupg/scdaemon.conf, or run: gpgconf --kill scdaemon")

	holders := m.users()
	if len(holders) == 0 {
		return warn(id, reader, message.Textf(
			"another program keeps the card for itself: a login gets SCARD_E_SHARING_VIOLATION"),
			remedy)
	}
	return warn(id, reader,
		message.Textf(
			"another program keeps the card for itself: a login gets SCARD_E_SHARING_VIOLATION; it is one of %s", named(holders)), remedy)
}

// users are the processes that may hold a card by the daemon: those that have its library, and
// those that are known to speak to it without.
func (m *Machine) users() []process {
	known := []string{"scdaemon", "gpg-agent", "keyboxd"}
	var some []process
	for _, p := range m.processes() {
		// scdaemon may drive readers itself, without the library; GnuPG's others ask it.
		isScdaemon := p.name == known[0]
		other := !slices.Contains(known, p.name) && p.name != "pcscd"
		if isScdaemon || other && m.maps(p, "libpcsclite.so") {
			some = append(some, p)
		}
	}
	return some
}

// checkAccess asks whether the daemon lets in the user who is meant and the one who sits at the
// machine, as programs that run as the user need it: screen lockers, browsers, ssh-agent.
func checkAccess(ctx context.Context, m *Machine) diagnosis.Findings {
	const subject = "daemon-access"
	switch {
	case !m.Live():
		return list(otherRoot(subject))
	case !isRoot():
		return list(asRoot(subject))
	}

	var found diagnosis.Findings
	for _, w := range m.daemons() {
		if w.mode == access.Bundled || !m.exists(strings.TrimPrefix(w.socket, m.Root)) {
			continue
		}
		// A socket that is not there admits nobody, which is another check's to say.

		for _, uid := range m.sitting() {
			found.Add(daemonAs(ctx, w.socket, uid)...)
		}
	}
	return found
}

// sitting are the numbers of the user who is meant and of those whose sessions are active at the
// machine (logind's files).
func (m *Machine) sitting() []int {
	var uids []int
	if m.UID > 0 {
		uids = append(uids, m.UID)
	}

	for _, file := range m.glob("/run/systemd/sessions/*") {
		// logind has a FIFO beside each session, by which it notices its end.
		if strings.HasSuffix(path.Base(file), ".ref") {
			continue
		}
		session, err := m.text(file)
		if err != nil {
			continue
		}

		uid, active := activeSession(session)
		if active && uid > 0 && !slices.Contains(uids, uid) {
			uids = append(uids, uid)
		}
	}
	return uids
}
