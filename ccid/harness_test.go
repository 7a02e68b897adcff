package ccid_test

import (
	"testing"
	"time"

	"pam_pkcs11/ccid"
	"pam_pkcs11/ccid/internal/readertest"
	"pam_pkcs11/ccid/plan"
	"pam_pkcs11/pcsc"
)

// The resource manager takes our slots as they are.
var _ pcsc.Slot = (*ccid.Slot)(nil)

// The tests of this package use what all of the driver's tests share, by short names.
const (
	t0       = readertest.T0
	t1       = readertest.T1
	tpdu     = readertest.TPDU
	extended = readertest.Extended
)

var (
	atrT0   = readertest.ATRT0
	atrT1   = readertest.ATRT1
	atrBoth = readertest.ATRBoth

	apdu        = readertest.APDU
	atr         = readertest.ATR
	code        = readertest.Code
	descriptor  = readertest.Descriptor
	events      = readertest.Events
	exchange    = readertest.Exchange
	interfaceOf = readertest.InterfaceOf
	models      = readertest.Models
	open        = readertest.Open
	profile     = readertest.Profile
	ready       = readertest.Ready
	testLog     = readertest.Log
)

// sizes are lengths of short fields at which something changes: packets, IFSC, fields.
var sizes = []int{1, 2, 31, 32, 33, 53, 54, 55, 117, 118, 127, 128, 129, 182, 250, 251, 252, 253, 254, 255, 256}

// exchangeAll exchanges APDUs of all cases and sizes up to what the reader can do. extended: longer ones too.
func exchangeAll(t testing.TB, s *ccid.Slot, p *plan.Plan, protocol uint32, extended bool) {
	t.Helper()
	largest := 255 // of Lc
	if p.Level == plan.LevelShortAPDU || p.Level == plan.LevelTPDU && protocol == t0 {
		largest = min(largest, p.MaxMessage-10-6)
	}
	exchange(t, s, protocol, apdu(0, 0))
	for _, n := range sizes {
		exchange(t, s, protocol, apdu(0, n))
		if n <= largest {
			exchange(t, s, protocol, apdu(n, 0))
			exchange(t, s, protocol, apdu(n, 1))
			exchange(t, s, protocol, apdu(n, 256))
		}
	}
	if !extended {
		return
	}
	for _, n := range []int{257, 511, 512, 1000, 4096, 65535} {
		exchange(t, s, protocol, apdu(0, n))
		exchange(t, s, protocol, apdu(n, 0))
		exchange(t, s, protocol, apdu(n, n))
	}
	exchange(t, s, protocol, apdu(65535, 65536))
}

// longest is more than any wait of the driver.
const longest = time.Hour
