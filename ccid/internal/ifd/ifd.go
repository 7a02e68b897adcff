// Package ifd has the errors of the driver of readers, each with its number of the IFD handler API,
// by which the resource manager decides.
package ifd

import (
	"context"
	"errors"
	"fmt"

	"pam_pkcs11/ccid/device"
)

// Codes of the IFD handler API (3.0, "return codes") that the driver gives its errors.
const (
	ErrorTag             = 600
	ReadOnly             = 602
	PTSFailure           = 605
	ProtocolNotSupported = 607
	PowerAction          = 608
	Communication        = 612
	Timeout              = 613
	Unsupported          = 614
	NotPresent           = 616
	NoSuchDevice         = 617
	InsufficientBuffer   = 618
)

// Fault is an error of the driver's own with its number of the IFD handler API.
type Fault struct {
	Code  int
	Text  string // what went wrong, or what was being done
	Cause error  // why; may be nil
}

// Error is the text, and after a colon the cause.
func (f *Fault) Error() string {
	if f.Cause != nil {
		return f.Text + ": " + f.Cause.Error()
	}
	return f.Text
}

// Unwrap is the cause.
func (f *Fault) Unwrap() error { return f.Cause }

// IFDCode returns the number of the IFD handler API.
func (f *Fault) IFDCode() int { return f.Code }

// Errorf makes a Fault without a cause.
func Errorf(code int, format string, args ...any) error {
	return &Fault{Code: code, Text: fmt.Sprintf(format, args...)}
}

// TransportError gives an error of a Transport its number.
func TransportError(doing string, err error) error {
	switch {
	case errors.Is(err, device.ErrGone), errors.Is(err, device.ErrClosed):
		return &Fault{Code: NoSuchDevice, Text: doing, Cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Fault{Code: Timeout, Text: doing, Cause: errTimeout}
	}
	return &Fault{Code: Communication, Text: doing, Cause: err}
}

// errTimeout is a reader that does not answer within its time.
var errTimeout = errors.New("no answer in time")

// Absent reports whether an error means that there is no card.
func Absent(err error) bool {
	if err == nil {
		return false
	}
	var coded interface{ IFDCode() int }
	return errors.As(err, &coded) && coded.IFDCode() == NotPresent
}
