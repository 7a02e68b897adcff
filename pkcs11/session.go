package pkcs11

import (
	"errors"

	"pam_pkcs11/internal/secret"
)

// User types of C_Login (PKCS#11 2.40, section 3.3).
const (
	userSO              = 0
	userUser            = 1
	userContextSpecific = 2
)

// Session is an open session with a token.
type Session struct {
	module    *Module
	slot      uint
	handle    uint
	loggedOut bool
	closed    bool
}

// OpenSession opens a serial session (C_OpenSession), one that may write for SetPIN.
func (m *Module) OpenSession(slot uint, readWrite bool) (*Session, error) {
	// Sessions of logins before this one are still open in the library (see Session.Close).
	if err := m.closeIdle(); err != nil {
		m.log.Info("old session not closed", "error", err)
	}

	var h uint
	err := m.call("C_OpenSession", func() (code Code) { h, code = m.lib.openSession(slot, readWrite); return code })
	if err != nil {
		return nil, err
	}

	return &Session{module: m, slot: slot, handle: h}, nil
}

func (m *Module) closeIdle() error {
	var errs []error
	for _, h := range m.idle {
		errs = append(errs, m.call("C_CloseSession", func() Code { return m.lib.closeSession(h) }))
	}
	m.idle = nil
	return errors.Join(errs...)
}

func (s *Session) call(name string, f func() Code) error {
	if s.closed {
		return ErrClosed
	}
	return s.module.call(name, f)
}

// Login verifies the user's PIN (C_Login). nil asks at the reader (protected authentication path);
// an empty PIN is sent as one. The error is an *Error: CKR_PIN_INCORRECT, CKR_PIN_LOCKED,
// CKR_PIN_EXPIRED, CKR_USER_ALREADY_LOGGED_IN (which is no proof that this PIN is right: see
// Relogin) and others.
func (s *Session) Login(pin *secret.PIN) error { return s.login(userUser, pin) }

// LoginContextSpecific verifies the PIN once more for the operation that was just begun, as keys
// with CKA_ALWAYS_AUTHENTICATE want it (PKCS#11 2.40, section 4.9).
func (s *Session) LoginContextSpecific(pin *secret.PIN) error {
	return s.login(userContextSpecific, pin)
}

func (s *Session) login(user uint, pin *secret.PIN) error {
	b := pin.Bytes()
	if pin != nil && b == nil {
		// C_Login would take NULL for the reader's keypad.
		return errors.New("the PIN was wiped")
	}

	err := s.call("C_Login", func() Code { return s.module.lib.login(s.handle, user, b) })
	if err == nil {
		s.loggedOut = false
	}
	return err
}

// Relogin logs out what somebody else logged in, and verifies the PIN really.
func (s *Session) Relogin(pin *secret.PIN) error {
	// That nobody is logged in any more is what was wanted.
	if err := s.Logout(); err != nil && !errors.Is(err, CKR_USER_NOT_LOGGED_IN) {
		return err
	}
	return s.Login(pin)
}

// Logout locks the token again (C_Logout).
func (s *Session) Logout() error {
	err := s.call("C_Logout", func() Code { return s.module.lib.logout(s.handle) })
	if err == nil {
		s.loggedOut = true
	}
	return err
}

// Close ends the session. After Logout, C_CloseSession is left to C_Finalize, which closes all
// sessions, or to the module's next OpenSession: one call less in each login. Close may be called
// again.
func (s *Session) Close() error {
	if s.closed {
		return nil
	}

	if s.loggedOut && s.module.finalize {
		s.closed = true
		s.module.idle = append(s.module.idle, s.handle)
		return nil
	}

	err := s.call("C_CloseSession", func() Code { return s.module.lib.closeSession(s.handle) })
	s.closed = true
	return err
}

// SetPIN changes the PIN of the user (C_SetPIN); the session must be one that may write. nil, nil
// changes it at the reader (protected authentication path).
func (s *Session) SetPIN(old, fresh *secret.PIN) error {
	o, f := old.Bytes(), fresh.Bytes()
	// NULL beside a PIN, or in the place of one that was wiped, would have the reader ask for it.
	if (o == nil) != (f == nil) || old != nil && o == nil {
		return errors.New("C_SetPIN wants both PINs or none")
	}
	return s.call("C_SetPIN", func() Code { return s.module.lib.setPIN(s.handle, o, f) })
}

// InitPIN sets the PIN of the user (C_InitPIN), after a log-in of the SO; the session must be one
// that may write.
func (s *Session) InitPIN(fresh *secret.PIN) error {
	f := fresh.Bytes()
	if f == nil {
		return errors.New("C_InitPIN wants a PIN")
	}
	return s.call("C_InitPIN", func() Code { return s.module.lib.initPIN(s.handle, f) })
}
