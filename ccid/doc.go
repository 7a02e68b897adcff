// Package ccid drives smart-card readers that follow the USB class specification CCID (revision 1.1) and ICCD (1.0),
// and those that almost do.
//
// The way of one APDU: Slot (slot.go) → the exchange level of the reader (apdu.go, tpdu.go, character.go, iccd.go) →
// exchange (exchange.go: one message and its answer) → message (message.go) → Transport (transport.go), which is USB
// (usb_c.go), a serial port, or a simulation (package ccidtest).
//
// What a reader can do and what it leaves to the host is decided once, from its descriptor and the table of quirks,
// and written down as data: Plan (plan.go).
package ccid
