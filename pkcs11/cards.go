package pkcs11

import (
	"context"

	"pam_pkcs11/token"
)

// Cards returns the library as a source of cards for a login. Whoever closes it closes the Module.
func (m *Module) Cards() token.Module { return &cards{m} }

// cards implements token.Module.
type cards struct{ module *Module }

// Slots lists all slots, with the tokens in them.
func (c *cards) Slots(context.Context) ([]token.Slot, error) {
	slots, err := c.module.Slots()
	if err != nil {
		return nil, err
	}

	list := make([]token.Slot, len(slots))
	for i, s := range slots {
		list[i] = s.place()
	}
	return list, nil
}

// place is the slot in the words of a login.
func (s Slot) place() token.Slot {
	p := token.Slot{
		ID:           s.ID,
		Index:        s.Index,
		TokenPresent: s.TokenPresent,
		Err:          s.Err,
		Description:  s.Description,
		Manufacturer: s.Manufacturer,
		Details:      details{s},
	}
	if s.Token != nil {
		p.Token = s.Token.info()
	}
	return p
}

// details asks the library for what Slots has left out. It implements token.Details.
type details struct{ slot Slot }

// Describe asks C_GetSlotInfo, unless that was asked when the slots were listed.
func (d details) Describe() (description, manufacturer string, err error) {
	s := d.slot
	err = s.Describe()
	return s.Description, s.Manufacturer, err
}

// Library asks C_GetInfo, once for each module.
func (d details) Library() (token.Library, error) {
	i, err := d.slot.module.Info()
	if err != nil {
		return token.Library{}, err
	}
	return token.Library{
		Manufacturer: i.Manufacturer,
		Description:  i.Description,
		Major:        i.Major,
		Minor:        i.Minor,
	}, nil
}

// Wait is WaitForSlotEvent.
func (c *cards) Wait(ctx context.Context) error { return c.module.WaitForSlotEvent(ctx) }

// Open opens a session that only reads.
func (c *cards) Open(_ context.Context, s token.Slot) (token.Session, error) {
	if s.Token == nil {
		return nil, &token.Error{Kind: token.ErrRemoved}
	}

	session, err := c.module.OpenSession(s.ID, false)
	if err != nil {
		return nil, err
	}

	return &card{
		module:  c.module,
		slot:    s.ID,
		info:    s.Token,
		session: session,
	}, nil
}

// Close closes the library.
func (c *cards) Close() error { return c.module.Close() }

// info is the token in the words of a login.
func (k *Token) info() *token.Info {
	f := k.Flags
	return &token.Info{
		Label:        k.Label,
		Manufacturer: k.Manufacturer,
		Model:        k.Model,
		Serial:       k.Serial,
		Initialized:  f.Initialized(),
		PIN: token.PIN{
			Required:    f.LoginRequired(),
			Set:         f.UserPINInitialized(),
			AtReader:    f.ProtectedPath(),
			ToBeChanged: f.PINToBeChanged(),
			MinLen:      k.MinPINLen,
			MaxLen:      k.MaxPINLen,
			Tries:       f.tries(),
			Said:        f.said(),
		},
	}
}

// tries is what the flags tell of the tries that are left. They are all there is: no field of
// CK_TOKEN_INFO (PKCS#11 2.40, section 3.2) holds a number. Many tokens never set
// CKF_USER_PIN_FINAL_TRY beside CKF_USER_PIN_COUNT_LOW, and one that sets none of the flags cannot
// be told from one that tells.
func (f TokenFlags) tries() token.Tries {
	switch {
	case f.PINLocked():
		return token.Tries{Level: token.Locked}
	case f.PINFinalTry():
		return token.Tries{Level: token.Last}
	case f.PINCountLow():
		return token.Tries{Level: token.Few}
	}
	return token.Tries{}
}

// said is the sentence of the log for a PIN that cannot be right, or whose last try is left.
func (f TokenFlags) said() string {
	switch {
	case f.PINLocked():
		return "the token says CKF_USER_PIN_LOCKED"
	case f.LoginRequired() && !f.UserPINInitialized():
		return "the token does not say CKF_USER_PIN_INITIALIZED"
	case f.PINFinalTry():
		return "the token says CKF_USER_PIN_FINAL_TRY"
	}
	return ""
}
