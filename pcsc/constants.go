package pcsc

import "fmt"

// Scope of a context; the manager treats all alike (PC/SC part 5, SCARD_SCOPE_*).
type Scope uint32

// Scopes.
const (
	ScopeUser     Scope = 0
	ScopeTerminal Scope = 1
	ScopeSystem   Scope = 2
	ScopeGlobal   Scope = 3
)

// ShareMode is with whom a connection shares its reader (SCARD_SHARE_*).
type ShareMode uint32

// Share modes. ShareDirect needs no card and does not power one.
const (
	ShareExclusive ShareMode = 1
	ShareShared    ShareMode = 2
	ShareDirect    ShareMode = 3
)

// Disposition is what becomes of the card (SCARD_LEAVE_CARD and so on); also the
// initialization of Reconnect.
type Disposition uint32

// Dispositions.
const (
	LeaveCard   Disposition = 0
	ResetCard   Disposition = 1
	UnpowerCard Disposition = 2
	EjectCard   Disposition = 3
)

// Protocol is a set of protocols, or one of them (SCARD_PROTOCOL_*).
type Protocol uint32

// Protocols. ProtocolAnyOld is the historical "whatever is active".
const (
	ProtocolUndefined Protocol = 0
	ProtocolT0        Protocol = 1
	ProtocolT1        Protocol = 2
	ProtocolRaw       Protocol = 4
	ProtocolT15       Protocol = 8
	ProtocolAny                = ProtocolT0 | ProtocolT1
	ProtocolAnyOld    Protocol = 0x1000
)

// State describes a card as SCardStatus does; the daemon publishes the same bits.
type State uint32

// Card states.
const (
	Unknown    State = 0x01
	Absent     State = 0x02
	Present    State = 0x04
	Swallowed  State = 0x08 // there, but it did not answer to power
	Powered    State = 0x10
	Negotiable State = 0x20
	Specific   State = 0x40
)

// StateFlag is a reader's state as SCardGetStatusChange gives and takes it (SCARD_STATE_*). The
// high 16 bits count card movements.
type StateFlag uint32

// Reader state flags.
const (
	StateUnaware     StateFlag = 0x000
	StateIgnore      StateFlag = 0x001
	StateChanged     StateFlag = 0x002
	StateUnknown     StateFlag = 0x004
	StateUnavailable StateFlag = 0x008
	StateEmpty       StateFlag = 0x010
	StatePresent     StateFlag = 0x020
	StateATRMatch    StateFlag = 0x040
	StateExclusive   StateFlag = 0x080
	StateInuse       StateFlag = 0x100
	StateMute        StateFlag = 0x200
	StateUnpowered   StateFlag = 0x400
)

// Limits of the interface (libpcsclite's pcsclite.h).
const (
	MaxReaderName     = 128   // bytes of a reader name with its NUL
	MaxATR            = 33    // bytes
	MaxBuffer         = 264   // bytes of an attribute
	MaxBufferExtended = 65548 // bytes of a command or an answer: 4+3+65536+3+2
	InfiniteTimeout   = 0xFFFFFFFF
)

// PnPReader is the name of the pseudo reader whose state changes when readers come and go.
const PnPReader = `\\?PnP?\Notification`

// DefaultReaderGroup is the one reader group there is.
const DefaultReaderGroup = "SCard$DefaultReaders"

// CtlCode is the macro SCARD_CTL_CODE: the control code of function number code.
func CtlCode(code uint16) uint32 { return 0x42000000 + uint32(code) }

// Attrib is the number of a reader attribute (SCARD_ATTR_*).
type Attrib uint32

// Attributes.
const (
	AttrVendorName           Attrib = 0x10100
	AttrVendorIFDType        Attrib = 0x10101
	AttrVendorIFDVersion     Attrib = 0x10102
	AttrVendorIFDSerialNo    Attrib = 0x10103
	AttrChannelID            Attrib = 0x20110
	AttrAsyncProtocolTypes   Attrib = 0x30120
	AttrDefaultCLK           Attrib = 0x30121
	AttrMaxCLK               Attrib = 0x30122
	AttrDefaultDataRate      Attrib = 0x30123
	AttrMaxDataRate          Attrib = 0x30124
	AttrMaxIFSD              Attrib = 0x30125
	AttrSyncProtocolTypes    Attrib = 0x30126
	AttrPowerMgmtSupport     Attrib = 0x40131
	AttrUserToCardAuthDevice Attrib = 0x50140
	AttrUserAuthInputDevice  Attrib = 0x50142
	AttrCharacteristics      Attrib = 0x60150
	AttrCurrentProtocolType  Attrib = 0x80201
	AttrCurrentCLK           Attrib = 0x80202
	AttrCurrentF             Attrib = 0x80203
	AttrCurrentD             Attrib = 0x80204
	AttrCurrentN             Attrib = 0x80205
	AttrCurrentW             Attrib = 0x80206
	AttrCurrentIFSC          Attrib = 0x80207
	AttrCurrentIFSD          Attrib = 0x80208
	AttrCurrentBWT           Attrib = 0x80209
	AttrCurrentCWT           Attrib = 0x8020a
	AttrCurrentEBCEncoding   Attrib = 0x8020b
	AttrExtendedBWT          Attrib = 0x8020c
	AttrICCPresence          Attrib = 0x90300
	AttrICCInterfaceStatus   Attrib = 0x90301
	AttrCurrentIOState       Attrib = 0x90302
	AttrATRString            Attrib = 0x90303
	AttrICCTypePerATR        Attrib = 0x90304
	AttrEscReset             Attrib = 0x7a000
	AttrEscCancel            Attrib = 0x7a003
	AttrEscAuthrequest       Attrib = 0x7a005
	AttrMaxinput             Attrib = 0x7a007
	AttrDeviceUnit           Attrib = 0x7fff0001
	AttrDeviceInUse          Attrib = 0x7fff0002
	AttrDeviceFriendlyName   Attrib = 0x7fff0003
	AttrDeviceSystemName     Attrib = 0x7fff0004
	AttrSuppressT1IFSRequest Attrib = 0x7fff0007
)

// String is the name that the specifications use.
func (p Protocol) String() string {
	switch p {
	case ProtocolUndefined:
		return "undefined"
	case ProtocolT0:
		return "T=0"
	case ProtocolT1:
		return "T=1"
	case ProtocolRaw:
		return "raw"
	case ProtocolAny:
		return "T=0 or T=1"
	}
	return fmt.Sprintf("0x%X", uint32(p))
}

// StatusSuffix is appended to the name of the daemon's socket, where --socket or --bundled named
// it, for the socket of `pcscd --status`. UnusableReader begins a line of the answer there that
// names a reader which cannot be used now.
const (
	StatusSuffix   = ".status"
	UnusableReader = "cannot be used: "
)

// BundledSocket is where the daemon listens that pam_pkcs11 brings along (`pcscd
// --bundled`), for root alone.
const BundledSocket = "/run/pam_pkcs11/pcscd.comm"
