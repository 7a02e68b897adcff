package ccidtest

import "time"

// Exchange is one message of the host and what the device makes of it, for a Fault to change.
type Exchange struct {
	Request []byte     // as the host sent it
	Answers []Transfer // what goes to the bulk IN endpoint, in this order
	Refuse  error      // what the host's transfer ends with: ccid.ErrStall, ccid.ErrGone; nil is success

	device *Device
	reader *reader
}

// Transfer is what one transfer on an IN endpoint brings.
type Transfer struct {
	Data  []byte
	Err   error         // instead of data: ccid.ErrStall (halts the endpoint), ccid.ErrOverflow, ccid.ErrGone
	After time.Duration // how much later it comes
}

// Fault changes an exchange. It returns true when it has done its deed and is to be forgotten; false: it waits for a
// later exchange (or wants to see all of them). Only the first fault that returns true has its way with an exchange.
// It is called with the device locked: it must not call the device's methods, and must not wait.
type Fault func(x *Exchange) (done bool)
