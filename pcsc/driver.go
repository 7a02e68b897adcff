package pcsc

import "context"

// Driver finds readers. S is the driver's own slot type, so that a package can be a Driver without
// importing this one: a method Run of the right shape on a type whose slots satisfy Slot is enough,
// and Plug accepts it.
type Driver[S Slot] interface {
	// Run reports readers until ctx ends or the driver cannot go on, and returns why. It calls
	//
	//   - attach for a reader that is open and ready. id names the place (USB "3-1:1.0", a device
	//     path): an attach of a known id replaces that reader, which counts as removed and added.
	//     product is the reader's name, iface the interface string and serial the serial number,
	//     both "" where there are none; the manager builds the public reader names from them
	//     ("product [iface] (serial) 00 00"). slots has 1 to 16 members;
	//   - detach when the reader is gone. The manager makes no new calls after it; a call in flight
	//     must end by itself, with an error;
	//   - settled once, when the readers that were there at the start have been attached: until
	//     then (or a bound of the manager's own) nobody is told that there is no reader.
	//
	// The three may be called from any goroutine, but not at the same time for one id. None of them
	// waits for a card.
	Run(
		ctx context.Context, attach func(id, product, iface, serial string, slots []S),
		detach func(id string), settled func(),
	) error
}

// Rescanner is a Driver that can be told to look again (`pcscd -H`).
type Rescanner interface {
	Rescan()
}

// Complainer is a Driver that can name readers which are there but cannot be used now, as one that
// another program holds.
type Complainer interface {
	// Unusable names them, each with the reason: "NAME: in use by pid 7 (pcscd)". It must not wait.
	Unusable() []string
}

// Slot is one place for a card. The manager never makes two calls to one slot at the same time,
// except that Events may be received from at any time; it does call different slots of one reader
// at the same time, and the driver orders these where its reader needs it. Every call ends within
// the driver's own deadlines; ctx ends when the reader is given up.
//
// Errors: anything with a method `IFDCode() int` is understood by its number of the IFD handler API
// (ErrorCode...), errors.ErrUnsupported as 614; any other error is a communication error (612).
type Slot interface {
	// Events delivers true when a card has come in and false when it has gone, in order,
	// beginning with true when a Events delivers true when a card has come in and false when it
	// has gone, in order, beginning with true when a card is there at the start. A card that was
	// taken out and put back is two values. nil: the reader cannot notify, and the manager calls
	// Present every 400 ms. Every call returns the same channel; closing it means that the driver
	// has no more to report.
	Events() <-chan bool

	// Present asks whether a card is in the slot now. It does not change the card's state.
	Present(ctx context.Context) (bool, error)

	// PowerUp switches the card on (cold reset if it was on) and returns its ATR, 2 to 33 bytes.
	PowerUp(ctx context.Context) (atr []byte, err error)

	// Reset is a warm reset where the reader knows the difference, and returns the ATR.
	Reset(ctx context.Context) (atr []byte, err error)

	// PowerDown switches the card off. It is not an error when there is no card.
	PowerDown(ctx context.Context) error

	// SetProtocol makes the card ready for protocol 1 (T=0) or 2 (T=1) with the best parameters:
	// PPS, IFS and so on. It is called once after every PowerUp or Reset, before the first
	// Transmit. Code 607 or 614 means that this protocol cannot be had; the manager then tries the
	// card's first protocol, if the client allows it.
	SetProtocol(ctx context.Context, protocol uint32) error

	// Transmit sends one command APDU under protocol 1, 2 or 4 (raw) and appends the answer to
	// reply[:0], whose capacity is only a hint. command is at most 65548 bytes and must not be
	// kept. The driver performs what T=0 needs (GET RESPONSE is the application's affair, as
	// everywhere in PC/SC).
	Transmit(ctx context.Context, protocol uint32, command, reply []byte) ([]byte, error)

	// Control performs a reader command: escape 0x42000001, feature request 0x42000D48 (and
	// 0x00313520), the PIN pad features the answer to it names, and whatever else the reader knows.
	// It must work without a card. max is the room of the caller: an answer that is longer is code
	// 618. An unknown code is 614. in must not be kept.
	Control(ctx context.Context, code uint32, in []byte, max int) ([]byte, error)

	// Attribute reads an attribute by its SCARD_ATTR number; code 600 or 614 when the reader does
	// not have it. The manager answers friendly name and system name itself, and the ATR when the
	// driver does not.
	Attribute(ctx context.Context, id uint32) ([]byte, error)

	// SetAttribute writes an attribute; code 600, 601, 602 or 614 when it cannot.
	SetAttribute(ctx context.Context, id uint32, value []byte) error
}

// Stopper is a Slot that knows when a card has stopped: only power would bring it back. The
// next Connect outside of a transaction then powers the card anew, and the other
// connections get ErrResetCard.
type Stopper interface {
	// Stopped reports whether the last exchange with the card failed in such a
	// way. It must not wait.
	Stopped() bool
}

// Codes of the IFD handler API (reference: IFD handler API 3.0, "return codes") that the manager
// distinguishes in a driver's errors.
const (
	ErrorCodeTag                = 600 // unknown attribute
	ErrorCodeSetFailure         = 601
	ErrorCodeReadOnly           = 602
	ErrorCodePTSFailure         = 605 // the card refused the parameters
	ErrorCodeNotSupported       = 606
	ErrorCodeProtocolNot        = 607 // protocol not supported
	ErrorCodePowerAction        = 608 // power action failed
	ErrorCodeCommunication      = 612
	ErrorCodeTimeout            = 613
	ErrorCodeUnsupported        = 614
	ErrorCodeNotPresent         = 616 // no card
	ErrorCodeNoSuchDevice       = 617 // the reader is gone
	ErrorCodeInsufficientBuffer = 618
)
