package logintest

import (
	"cmp"
	"fmt"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/testca"
	"pam_pkcs11/token"
)

// Card is one card. Between New and the end of the logins its fields are changed in Readers.Change
// only.
type Card struct {
	Label, Manufacturer, Model, Serial string

	Blank bool // was never initialised, which counts as no card

	PIN    string // "": none was set
	Wrong  int    // wrong PINs since the last right one
	Most   int    // so many wrong PINs lock it; 0 is 3
	Silent bool   // does not tell of tries, but that it is locked
	Counts bool   // tells how many tries are left
	Known  int    // the most tries that the module has seen, Tries.Most; 0 is none

	PUK      string // "": there is no way to unblock it
	PUKWrong int    // wrong PUKs since the last right one, of three

	DefaultPIN, DefaultPUK bool // it tells that they are its maker's

	// LogInNotRequired: its keys want no log-in. Without a PIN it is a token that has none.
	LogInNotRequired bool

	ToBeChanged    bool // asks for another PIN
	MinPIN, MaxPIN int  // bytes; 0 is not told

	AtReader bool // its PIN is typed at the reader

	// Typed is what is typed there, one for each entry. When there is none any more, an entry is
	// cancelled.
	Typed []string

	Hides   bool // shows its certificates only after the log-in
	Objects []Object
	Reads   int // how often a certificate was read from the card

	// Remembered is what the module remembers of Objects, and shows in their place until the key in
	// the place of one has signed for another certificate. nil: nothing.
	Remembered []Object

	Unproved string // why a signature may not fit its certificate, as the module knows

	// LocksAtOnce: it is locked again before LogInAndSign returns; else Close locks it.
	LocksAtOnce bool
}

// Object is a certificate on a card, and its key.
type Object struct {
	Label string
	ID    []byte
	Cert  *testca.Cert
	Key   *testca.Key // nil is the certificate's own
	NoKey bool        // there is none

	PINAgain bool        // the key wants the PIN for each signature
	Touch    token.Touch // what the card tells of its wish to be touched
	Err      error       // why the certificate cannot be used; Cert may be nil then
}

// With returns a card with these certificates and their keys, and the PIN.
func With(label, pin string, certs ...*testca.Cert) *Card {
	c := &Card{Label: label, PIN: pin}
	for i, cert := range certs {
		c.Objects = append(c.Objects, Object{ID: []byte{byte(i + 1)}, Cert: cert})
	}
	return c
}

// left is how many wrong PINs lock the card.
func (c *Card) left() int { return max(cmp.Or(c.Most, 3)-c.Wrong, 0) }

// tries is what the card tells of that.
func (c *Card) tries() token.Tries {
	t := token.Tries{Counted: c.Counts, Most: c.Known}
	if c.Counts {
		t.Left = c.left()
	}

	switch left := c.left(); {
	case left == 0:
		t.Level = token.Locked
	case c.Silent:
	case left == 1:
		// A wrong PIN is told where the card does not tell how many are left.
		t.Level = token.Last
	case c.Wrong > 0:
		t.Level = token.Few
	}
	return t
}

// info is what the card tells of itself.
func (c *Card) info() *token.Info {
	i := &token.Info{
		Label:        c.Label,
		Manufacturer: cmp.Or(c.Manufacturer, "Example"),
		Model:        cmp.Or(c.Model, "card in memory"),
		Serial:       cmp.Or(c.Serial, "serial of "+c.Label),
		Initialized:  !c.Blank,
		PIN: token.PIN{
			Required:    !c.LogInNotRequired,
			Set:         c.PIN != "",
			AtReader:    c.AtReader,
			ToBeChanged: c.ToBeChanged,
			Default:     c.DefaultPIN,
			MinLen:      c.MinPIN,
			MaxLen:      c.MaxPIN,
			Tries:       c.tries(),
		},
	}

	switch p := &i.PIN; {
	case p.Tries.Level == token.Locked:
		p.Said = "the card says that its PIN is locked"
	case p.Required && !p.Set:
		p.Said = "the card says that it has no PIN"
	case p.Tries.Level == token.Last:
		p.Said = "the card says that one try is left"
	}
	return i
}

// verify takes one PIN, right or wrong.
func (c *Card) verify(pin string) error {
	switch {
	case c.PIN == "" && c.LogInNotRequired:
		return &token.Error{Kind: token.ErrPINUnsupported}
	case c.PIN == "":
		return &token.Error{Kind: token.ErrPINNotSet}
	case c.left() == 0:
		return &token.Error{Kind: token.ErrPINLocked}
	case pin != c.PIN:
		c.Wrong++
		return &token.Error{Kind: token.ErrPINWrong, Tries: c.tries()}
	}
	c.Wrong = 0
	return nil
}

// typed takes the next entry at the reader.
func (c *Card) typed() (string, error) {
	if len(c.Typed) == 0 {
		return "", &token.Error{Kind: token.ErrCancelled}
	}
	entry := c.Typed[0]
	c.Typed = c.Typed[1:]
	return entry, nil
}

// fits reports whether a PIN may be set.
func (c *Card) fits(pin string) bool {
	return len(pin) >= max(c.MinPIN, 1) && (c.MaxPIN == 0 || len(pin) <= c.MaxPIN)
}

// mostPUK is how many wrong PUKs lock a card for good.
const mostPUK = 3

// unblock takes a PUK, right or wrong, and a new PIN.
func (c *Card) unblock(puk, fresh string) error {
	switch {
	case c.PUK == "":
		return &token.Error{Kind: token.ErrNotSupported}
	case c.PUKWrong == mostPUK:
		return &token.Error{Kind: token.ErrPINLocked}
	case puk != c.PUK:
		c.PUKWrong++
		return &token.Error{Kind: token.ErrPINWrong, Tries: c.triesOfPUK()}
	}

	c.PUKWrong = 0
	if !c.fits(fresh) {
		return &token.Error{Kind: token.ErrPINFormat}
	}
	c.PIN, c.Wrong = fresh, 0
	return nil
}

// triesOfPUK is what the card tells of the tries for its PUK.
func (c *Card) triesOfPUK() token.Tries {
	t := token.Tries{Left: mostPUK - c.PUKWrong, Counted: true, Most: mostPUK}
	switch {
	case t.Left == 0:
		t.Level = token.Locked
	case t.Left == 1:
		t.Level = token.Last
	case c.PUKWrong > 0:
		t.Level = token.Few
	}
	return t
}

// object is the ith of these certificates as a session shows it.
func object(objects []Object, i int) token.Object {
	o := objects[i]
	shown := token.Object{
		Handle: uint(i + 1),
		ID:     o.ID,
		Label:  o.Label,
		Err:    o.Err,
	}
	if o.Cert != nil {
		shown.Value = o.Cert.DER
	}
	// A certificate that cannot be used is shown with its bytes, as a real module does.
	if o.Err != nil {
		return shown
	}

	shown.Cert, shown.Err = certinfo.Parse(o.Cert.DER)
	if shown.Err == nil {
		// The bytes are in Cert, too: Value is for those that could not be parsed.
		shown.Value = nil
	} else {
		shown.Cert = nil
		shown.Err = fmt.Errorf("certificate %d: %w", i+1, shown.Err)
	}
	return shown
}

// key is that of the ith certificate, nil where there is none.
func (o *Object) key() *testca.Key {
	switch {
	case o.NoKey:
		return nil
	case o.Key != nil:
		return o.Key
	case o.Cert != nil:
		return o.Cert.Key
	}
	return nil
}
