package doctor

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/setup/undo"
)

// checkSetups looks whether a setup was cut short, or will be taken back by itself. It needs
// nothing but the records.
func checkSetups(_ context.Context, m *Machine) diagnosis.Findings {
	const id, subject = "setups", undo.StoreDir
	tree, err := undo.OpenTree(m.Path("/"))
	if err != nil {
		return list(notLooked(subject, message.Textf("%v", err)))
	}
	defer tree.Close()

	// Records are taken back from the newest on: only that one can wait for anything.
	latest, err := (&undo.Store{Tree: tree}).Latest()
	switch {
	case errors.Is(err, undo.ErrNothing):
		return list(good(id, subject, message.Textf("no setup waits for anything")))
	case errors.Is(err, fs.ErrPermission):
		return list(asRoot(subject))
	case err != nil:
		return list(warn("setup-record", subject,
			message.Textf(
				"the records of setups cannot be read, so that undo has nothing to go by: %v", err),
			message.Textf("look at the directory; pam-pkcs11 undo says what it misses")))
	case latest.Stage == undo.Started:
		return list(warn("setup-cut-short", subject,
			message.Textf("setup %d is under way, or was cut short", latest.Number),
			message.Textf("if nobody is at it, run: pam-pkcs11 undo")))
	case latest.Pending():
		return list(m.pendingSetup(latest, subject))
	}
	return list(good(id, subject, message.Textf("no setup waits for anything")))
}

// late is how long after its time a setup may still be there: the stacks are being restored.
const late = time.Minute

// pendingSetup says when a setup will be taken back. A restart of the machine ends what waits for
// that.
func (m *Machine) pendingSetup(latest *undo.Manifest, subject string) diagnosis.Finding {
	at := latest.RevertAt.UTC().Format(time.DateTime)
	remedy := message.Textf("run: pam-pkcs11 setup --keep, or: pam-pkcs11 undo")
	// What waits is a timer or a process, and neither comes back after a restart.
	if m.now().After(latest.RevertAt.Add(late)) {
		return warn("setup-overdue", subject,
			message.Textf(
				"nobody has confirmed setup %d, and it should have been taken back at %s (UTC): what waited for that has been ended", latest.Number, at),
			remedy)
	}

	return warn("setup-pending", subject,
		message.Textf("setup %d will be taken back at %s (UTC), since nobody has confirmed it yet",
			latest.Number, at), remedy)
}
