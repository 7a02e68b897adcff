package explain

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"pam_pkcs11/config"
	"pam_pkcs11/login"
	"pam_pkcs11/token"
)

// witness writes down what a login finds out. It implements login.Observer.
type witness struct {
	// mu guards warned.
	mu     sync.Mutex
	warned bytes.Buffer // the warnings of the login, a line each

	conf   *config.Config
	slots  []token.Slot
	fits   []fit // of slots
	judged []login.Judged
	passed []passed
	asked  []*token.Info
	uses   string // whether the user must use a card, and why; "" where no list says anything
}

// fit is why a slot's card is taken or not.
type fit struct {
	fit token.Fit
	why string
}

// passed is a card that was not used.
type passed struct {
	card *token.Info
	why  *login.Refusal
}

// maxWarned bounds what is kept of the warnings, in bytes.
const maxWarned = 64 << 10

// Configured implements login.Observer.
func (w *witness) Configured(conf *config.Config) { w.conf = conf }

// Uses implements login.UseObserver.
func (w *witness) Uses(word, why string) {
	w.uses = word
	if why != "" {
		w.uses += ": " + why
	}
}

// Looked implements login.Observer. The last look counts.
func (w *witness) Looked(slots []token.Slot, check func(*token.Slot) (token.Fit, string)) {
	w.slots = slots
	w.fits = nil

	for i := range slots {
		f, why := check(&slots[i])
		_ = slots[i].Describe() // its reader's name is for people only
		w.fits = append(w.fits, fit{f, why})
	}
}

// Judged implements login.Observer. Of two results of one certificate the last counts.
func (w *witness) Judged(j login.Judged) {
	i := slices.IndexFunc(w.judged, func(old login.Judged) bool { return sameCertificate(old, j) })
	if i < 0 {
		w.judged = append(w.judged, j)
		return
	}
	w.judged[i] = j
}

// sameCertificate reports whether two results are of one certificate of one card.
func sameCertificate(a, b login.Judged) bool {
	// One that cannot be read is known by its object.
	if a.Cert == nil || b.Cert == nil {
		return a.Cert == b.Cert && a.Label == b.Label && a.Card == b.Card
	}
	return a.Cert.Equal(b.Cert) && a.Card.Label == b.Card.Label
}

// Passed implements login.Observer.
func (w *witness) Passed(card *token.Info, why error) {
	w.passed = append(w.passed, passed{card, asRefusal(why)})
}

// Asks implements login.Observer.
func (w *witness) Asks(card *token.Info) { w.asked = append(w.asked, card) }

// logger keeps the warnings of the login.
func (w *witness) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// Write takes a line of the log. The line about the refusal itself says what the verdict says.
func (w *witness) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// The rest of too many warnings is dropped, and the writer does not learn of it.
	if !bytes.HasPrefix(line, []byte(`msg="login refused"`)) && w.warned.Len() < maxWarned {
		w.warned.Write(line)
	}
	return len(line), nil
}

// asRefusal is the refusal in an error of a login, nil for none.
func asRefusal(err error) *login.Refusal {
	var r *login.Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}

// innermost is the refusal behind one that only veils it.
func innermost(r *login.Refusal) *login.Refusal {
	for r != nil {
		next := asRefusal(r.Err)
		if next == nil {
			return r
		}
		r = next
	}
	return nil
}

// oneLine puts a text onto one line that a terminal shows as it is, of at most 600 bytes.
func oneLine(s string) string {
	s = token.Printable(strings.ReplaceAll(strings.TrimSpace(s), "\n", ";"))
	if len(s) > 600 {
		return strings.ToValidUTF8(s[:600], "") + "..."
	}
	return s
}
