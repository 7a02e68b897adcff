package ccid

import (
	"context"
	"errors"
	"fmt"
)

// Codes of the IFD handler API (3.0, "return codes") that this package gives its errors.
const (
	ifdErrorTag           = 600
	ifdReadOnly           = 602
	ifdPTSFailure         = 605
	ifdProtocolNot        = 607
	ifdPowerAction        = 608
	ifdCommunication      = 612
	ifdTimeout            = 613
	ifdUnsupported        = 614
	ifdNotPresent         = 616
	ifdNoSuchDevice       = 617
	ifdInsufficientBuffer = 618
)

// fault is an error of this package's own with its number of the IFD handler API.
type fault struct {
	code  int
	text  string
	cause error
}

func (f *fault) Error() string {
	if f.cause != nil {
		return f.text + ": " + f.cause.Error()
	}
	return f.text
}

func (f *fault) Unwrap() error { return f.cause }

// IFDCode is the number of the IFD handler API.
func (f *fault) IFDCode() int { return f.code }

func failure(code int, format string, args ...any) error {
	return &fault{code: code, text: fmt.Sprintf(format, args...)}
}

// transportError gives an error of a Transport its number.
func transportError(doing string, err error) error {
	switch {
	case errors.Is(err, ErrGone), errors.Is(err, ErrClosed):
		return &fault{code: ifdNoSuchDevice, text: doing, cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &fault{code: ifdTimeout, text: doing, cause: errTimeout}
	}
	return &fault{code: ifdCommunication, text: doing, cause: err}
}

// errTimeout is a reader that does not answer within its time.
var errTimeout = errors.New("no answer in time")

// absent tells whether an error means that there is no card.
func absent(err error) bool {
	if err == nil {
		return false
	}
	var coded interface{ IFDCode() int }
	return errors.As(err, &coded) && coded.IFDCode() == ifdNotPresent
}
