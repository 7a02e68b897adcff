// Package ccid drives smart-card readers that follow the USB class specification CCID (revision
// 1.1) and ICCD (1.0), and those that almost do.
//
// The packages below it, from the bytes up:
//
//	device         descriptors of an interface, and the Transport that carries its bytes
//	message        commands, answers and notifications
//	plan           what is done with a reader: its descriptor, the quirks, the options
//	internal/link  one command and its answer
//	ccid           readers and slots: power, protocols, APDUs, PIN pads (this package)
//	usb, serial    the drivers of this machine's USB and of a serial line, which open readers
//
// The way of one APDU: Slot.Transmit → the exchange level of the reader (transmit.go, character.go)
// → one message and its answer (link) → Transport, which is USB, a serial line, or a simulation
// (package ccidtest).
//
// What a reader can do and what it leaves to the host is decided once, from its descriptor and the
// table of quirks, and written down as data: plan.Plan.
package ccid
