package ccidtest

import "time"

// Exchange is one message of the host and the device's reaction to it, for a Fault to change.
type Exchange struct {
	Request []byte     // as the host sent it
	Answers []Transfer // for the bulk IN endpoint, in this order
	Refuse  error      // the host's transfer ends with device.ErrStall or ErrGone; nil is success

	device *Device
	reader *reader
}

// Transfer is one transfer on an IN endpoint.
type Transfer struct {
	Data  []byte
	Err   error         // instead of data: device.ErrStall (a halt), ErrOverflow, ErrGone
	After time.Duration // how much later it comes
}

// Fault changes an exchange. It returns true when it has been applied for the last time and is to
// be removed, false when it waits for a later exchange (or is for all of them). Only the first
// fault that returns true is applied to an exchange. It is called with the device locked: it must
// not call the device's methods, and must not wait.
type Fault func(x *Exchange) (done bool)
