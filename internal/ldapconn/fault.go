package ldapconn

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// Fault is why a server that was reached does not do what it is asked for. A connection that fails
// and a timeout are none: there the error is ErrNoServer, or ErrEnded, or a context's.
type Fault string

// Error implements error.
func (f Fault) Error() string { return string(f) }

// The faults.
const (
	ErrStartTLSRefused Fault = "the server refuses StartTLS"
	ErrBindRefused     Fault = "the server refuses the bind"
	ErrNoBase          Fault = "the base does not exist, or may not be seen by this bind"
	ErrAccess          Fault = "the server refuses the search: this bind may not do it"
	ErrReferralOnly    Fault = "the server only points to other servers"
	ErrSizeLimit       Fault = "the server ends the search at its own size limit"
	ErrSearchRefused   Fault = "the server refuses the search"

	// ErrTooMuch is about Config.MaxBytes, or one page of a search with Keep.
	ErrTooMuch Fault = "the server sends more than is allowed"
)

// IsFault reports whether a server was reached and refused, whatever else failed beside it.
func IsFault(err error) bool {
	var f Fault
	return errors.As(err, &f)
}

// isResult reports whether an error is a server's result (RFC 4511, 4.1.9), and not the client's
// own. That the server had no time (timeLimitExceeded) counts as a timeout.
func isResult(err error) bool {
	var e *ldap.Error
	if !errors.As(err, &e) {
		return false
	}

	// The library numbers its own errors from ErrorNetwork on.
	return e.ResultCode < ldap.ErrorNetwork && e.ResultCode != ldap.LDAPResultTimeLimitExceeded
}

// asFault puts the fault in front of a server's result; other errors stay as they are.
func asFault(f Fault, err error) error {
	if err == nil || !isResult(err) {
		return err
	}
	return fmt.Errorf("%w: %w", f, err)
}

// searchFault puts the fault that ends a search in front of a server's result.
func searchFault(err error) error {
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return asFault(ErrNoBase, err)
	case ldap.IsErrorWithCode(err, ldap.LDAPResultInsufficientAccessRights):
		return asFault(ErrAccess, err)
	}
	return asFault(ErrSearchRefused, err)
}

// referralFault names the servers that a server refers to instead of an answer.
func referralFault(urls []string) error {
	return fmt.Errorf("%w: %.300s", ErrReferralOnly, strings.Join(urls, " "))
}
