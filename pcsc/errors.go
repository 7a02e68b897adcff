package pcsc

import "fmt"

// Error is a PC/SC result other than success, by its number (SCARD_*, pcsc-lite's pcsclite.h).
// Compare with == or errors.Is.
type Error uint32

// Results. ErrUnexpected and ErrUnsupportedFeature share a number in pcsc-lite.
const (
	ErrSuccess                Error = 0
	ErrInternalError          Error = 0x80100001 // SCARD_F_INTERNAL_ERROR
	ErrCancelled              Error = 0x80100002 // SCARD_E_CANCELLED
	ErrInvalidHandle          Error = 0x80100003 // SCARD_E_INVALID_HANDLE
	ErrInvalidParameter       Error = 0x80100004 // SCARD_E_INVALID_PARAMETER
	ErrInvalidTarget          Error = 0x80100005 // SCARD_E_INVALID_TARGET
	ErrNoMemory               Error = 0x80100006 // SCARD_E_NO_MEMORY
	ErrWaitedTooLong          Error = 0x80100007 // SCARD_F_WAITED_TOO_LONG
	ErrInsufficientBuffer     Error = 0x80100008 // SCARD_E_INSUFFICIENT_BUFFER
	ErrUnknownReader          Error = 0x80100009 // SCARD_E_UNKNOWN_READER
	ErrTimeout                Error = 0x8010000A // SCARD_E_TIMEOUT
	ErrSharingViolation       Error = 0x8010000B // SCARD_E_SHARING_VIOLATION
	ErrNoSmartcard            Error = 0x8010000C // SCARD_E_NO_SMARTCARD
	ErrUnknownCard            Error = 0x8010000D // SCARD_E_UNKNOWN_CARD
	ErrCantDispose            Error = 0x8010000E // SCARD_E_CANT_DISPOSE
	ErrProtoMismatch          Error = 0x8010000F // SCARD_E_PROTO_MISMATCH
	ErrNotReady               Error = 0x80100010 // SCARD_E_NOT_READY
	ErrInvalidValue           Error = 0x80100011 // SCARD_E_INVALID_VALUE
	ErrSystemCancelled        Error = 0x80100012 // SCARD_E_SYSTEM_CANCELLED
	ErrCommError              Error = 0x80100013 // SCARD_F_COMM_ERROR
	ErrUnknownError           Error = 0x80100014 // SCARD_F_UNKNOWN_ERROR
	ErrInvalidATR             Error = 0x80100015 // SCARD_E_INVALID_ATR
	ErrNotTransacted          Error = 0x80100016 // SCARD_E_NOT_TRANSACTED
	ErrReaderUnavailable      Error = 0x80100017 // SCARD_E_READER_UNAVAILABLE
	ErrShutdown               Error = 0x80100018 // SCARD_P_SHUTDOWN
	ErrPCITooSmall            Error = 0x80100019 // SCARD_E_PCI_TOO_SMALL
	ErrReaderUnsupported      Error = 0x8010001A // SCARD_E_READER_UNSUPPORTED
	ErrDuplicateReader        Error = 0x8010001B // SCARD_E_DUPLICATE_READER
	ErrCardUnsupported        Error = 0x8010001C // SCARD_E_CARD_UNSUPPORTED
	ErrNoService              Error = 0x8010001D // SCARD_E_NO_SERVICE
	ErrServiceStopped         Error = 0x8010001E // SCARD_E_SERVICE_STOPPED
	ErrUnsupportedFeature     Error = 0x8010001F // SCARD_E_UNSUPPORTED_FEATURE
	ErrUnexpected             Error = 0x8010001F
	ErrICCInstallation        Error = 0x80100020 // SCARD_E_ICC_INSTALLATION
	ErrICCCreateOrder         Error = 0x80100021 // SCARD_E_ICC_CREATEORDER
	ErrDirNotFound            Error = 0x80100023 // SCARD_E_DIR_NOT_FOUND
	ErrFileNotFound           Error = 0x80100024 // SCARD_E_FILE_NOT_FOUND
	ErrNoDir                  Error = 0x80100025 // SCARD_E_NO_DIR
	ErrNoFile                 Error = 0x80100026 // SCARD_E_NO_FILE
	ErrNoAccess               Error = 0x80100027 // SCARD_E_NO_ACCESS
	ErrWriteTooMany           Error = 0x80100028 // SCARD_E_WRITE_TOO_MANY
	ErrBadSeek                Error = 0x80100029 // SCARD_E_BAD_SEEK
	ErrInvalidCHV             Error = 0x8010002A // SCARD_E_INVALID_CHV
	ErrUnknownResMng          Error = 0x8010002B // SCARD_E_UNKNOWN_RES_MNG
	ErrNoSuchCertificate      Error = 0x8010002C // SCARD_E_NO_SUCH_CERTIFICATE
	ErrCertificateUnavailable Error = 0x8010002D // SCARD_E_CERTIFICATE_UNAVAILABLE
	ErrNoReadersAvailable     Error = 0x8010002E // SCARD_E_NO_READERS_AVAILABLE
	ErrCommDataLost           Error = 0x8010002F // SCARD_E_COMM_DATA_LOST
	ErrNoKeyContainer         Error = 0x80100030 // SCARD_E_NO_KEY_CONTAINER
	ErrServerTooBusy          Error = 0x80100031 // SCARD_E_SERVER_TOO_BUSY
	ErrUnsupportedCard        Error = 0x80100065 // SCARD_W_UNSUPPORTED_CARD
	ErrUnresponsiveCard       Error = 0x80100066 // SCARD_W_UNRESPONSIVE_CARD
	ErrUnpoweredCard          Error = 0x80100067 // SCARD_W_UNPOWERED_CARD
	ErrResetCard              Error = 0x80100068 // SCARD_W_RESET_CARD
	ErrRemovedCard            Error = 0x80100069 // SCARD_W_REMOVED_CARD
	ErrSecurityViolation      Error = 0x8010006A // SCARD_W_SECURITY_VIOLATION
	ErrWrongCHV               Error = 0x8010006B // SCARD_W_WRONG_CHV
	ErrCHVBlocked             Error = 0x8010006C // SCARD_W_CHV_BLOCKED
	ErrEOF                    Error = 0x8010006D // SCARD_W_EOF
	ErrCancelledByUser        Error = 0x8010006E // SCARD_W_CANCELLED_BY_USER
	ErrCardNotAuthenticated   Error = 0x8010006F // SCARD_W_CARD_NOT_AUTHENTICATED
)

// errorTexts names every number.
var errorTexts = map[Error]struct{ name, text string }{
	ErrSuccess:                {"SCARD_S_SUCCESS", "success"},
	ErrInternalError:          {"SCARD_F_INTERNAL_ERROR", "internal error"},
	ErrCancelled:              {"SCARD_E_CANCELLED", "the wait was cancelled"},
	ErrInvalidHandle:          {"SCARD_E_INVALID_HANDLE", "no such context or card handle"},
	ErrInvalidParameter:       {"SCARD_E_INVALID_PARAMETER", "a parameter is not possible"},
	ErrInvalidTarget:          {"SCARD_E_INVALID_TARGET", "the registry entry is not possible"},
	ErrNoMemory:               {"SCARD_E_NO_MEMORY", "not enough memory, or a limit is reached"},
	ErrWaitedTooLong:          {"SCARD_F_WAITED_TOO_LONG", "an internal timer has run out"},
	ErrInsufficientBuffer:     {"SCARD_E_INSUFFICIENT_BUFFER", "the answer does not fit into the buffer"},
	ErrUnknownReader:          {"SCARD_E_UNKNOWN_READER", "no reader has this name"},
	ErrTimeout:                {"SCARD_E_TIMEOUT", "the time given has passed"},
	ErrSharingViolation:       {"SCARD_E_SHARING_VIOLATION", "another connection has the reader"},
	ErrNoSmartcard:            {"SCARD_E_NO_SMARTCARD", "no card is in the reader"},
	ErrUnknownCard:            {"SCARD_E_UNKNOWN_CARD", "the card is not known"},
	ErrCantDispose:            {"SCARD_E_CANT_DISPOSE", "the card cannot be disposed of as asked"},
	ErrProtoMismatch:          {"SCARD_E_PROTO_MISMATCH", "the card does not speak a protocol that was asked for"},
	ErrNotReady:               {"SCARD_E_NOT_READY", "the reader or card is not ready"},
	ErrInvalidValue:           {"SCARD_E_INVALID_VALUE", "a value is not possible"},
	ErrSystemCancelled:        {"SCARD_E_SYSTEM_CANCELLED", "cancelled by the system"},
	ErrCommError:              {"SCARD_F_COMM_ERROR", "the connection to the daemon broke"},
	ErrUnknownError:           {"SCARD_F_UNKNOWN_ERROR", "unknown internal error"},
	ErrInvalidATR:             {"SCARD_E_INVALID_ATR", "not an ATR"},
	ErrNotTransacted:          {"SCARD_E_NOT_TRANSACTED", "the exchange with the card did not succeed, or there is no transaction"},
	ErrReaderUnavailable:      {"SCARD_E_READER_UNAVAILABLE", "the reader cannot be used now"},
	ErrShutdown:               {"SCARD_P_SHUTDOWN", "the daemon is ending"},
	ErrPCITooSmall:            {"SCARD_E_PCI_TOO_SMALL", "the PCI receive buffer is too small"},
	ErrReaderUnsupported:      {"SCARD_E_READER_UNSUPPORTED", "the reader does not meet minimal requirements"},
	ErrDuplicateReader:        {"SCARD_E_DUPLICATE_READER", "the reader name is taken"},
	ErrCardUnsupported:        {"SCARD_E_CARD_UNSUPPORTED", "the card does not meet minimal requirements"},
	ErrNoService:              {"SCARD_E_NO_SERVICE", "the PC/SC daemon is not running"},
	ErrServiceStopped:         {"SCARD_E_SERVICE_STOPPED", "the PC/SC daemon does not speak this version"},
	ErrUnsupportedFeature:     {"SCARD_E_UNSUPPORTED_FEATURE", "the reader does not support this"},
	ErrICCInstallation:        {"SCARD_E_ICC_INSTALLATION", "no primary provider for the card"},
	ErrICCCreateOrder:         {"SCARD_E_ICC_CREATEORDER", "the order of object creation is not supported"},
	ErrDirNotFound:            {"SCARD_E_DIR_NOT_FOUND", "no such directory on the card"},
	ErrFileNotFound:           {"SCARD_E_FILE_NOT_FOUND", "no such file on the card"},
	ErrNoDir:                  {"SCARD_E_NO_DIR", "not a directory on the card"},
	ErrNoFile:                 {"SCARD_E_NO_FILE", "not a file on the card"},
	ErrNoAccess:               {"SCARD_E_NO_ACCESS", "no access to this file"},
	ErrWriteTooMany:           {"SCARD_E_WRITE_TOO_MANY", "the card could not take all data"},
	ErrBadSeek:                {"SCARD_E_BAD_SEEK", "seeking in the file went wrong"},
	ErrInvalidCHV:             {"SCARD_E_INVALID_CHV", "the PIN is wrong"},
	ErrUnknownResMng:          {"SCARD_E_UNKNOWN_RES_MNG", "unknown code from a layer below"},
	ErrNoSuchCertificate:      {"SCARD_E_NO_SUCH_CERTIFICATE", "no such certificate"},
	ErrCertificateUnavailable: {"SCARD_E_CERTIFICATE_UNAVAILABLE", "the certificate cannot be had"},
	ErrNoReadersAvailable:     {"SCARD_E_NO_READERS_AVAILABLE", "there is no reader"},
	ErrCommDataLost:           {"SCARD_E_COMM_DATA_LOST", "data was lost"},
	ErrNoKeyContainer:         {"SCARD_E_NO_KEY_CONTAINER", "no such key container"},
	ErrServerTooBusy:          {"SCARD_E_SERVER_TOO_BUSY", "the daemon is too busy"},
	ErrUnsupportedCard:        {"SCARD_W_UNSUPPORTED_CARD", "the reader cannot speak to the card"},
	ErrUnresponsiveCard:       {"SCARD_W_UNRESPONSIVE_CARD", "the card does not answer"},
	ErrUnpoweredCard:          {"SCARD_W_UNPOWERED_CARD", "the card has no power"},
	ErrResetCard:              {"SCARD_W_RESET_CARD", "the card has been reset: Reconnect"},
	ErrRemovedCard:            {"SCARD_W_REMOVED_CARD", "the card has been removed"},
	ErrSecurityViolation:      {"SCARD_W_SECURITY_VIOLATION", "access denied"},
	ErrWrongCHV:               {"SCARD_W_WRONG_CHV", "the PIN is wrong"},
	ErrCHVBlocked:             {"SCARD_W_CHV_BLOCKED", "the PIN is blocked"},
	ErrEOF:                    {"SCARD_W_EOF", "end of the file on the card"},
	ErrCancelledByUser:        {"SCARD_W_CANCELLED_BY_USER", "the user has cancelled"},
	ErrCardNotAuthenticated:   {"SCARD_W_CARD_NOT_AUTHENTICATED", "no PIN was presented"},
}

// Error gives the name, what it means and the number: "SCARD_E_NO_SMARTCARD: no card is in the
// reader (0x8010000C)".
func (e Error) Error() string {
	t, ok := errorTexts[e]
	if !ok {
		return fmt.Sprintf("unknown PC/SC result (0x%08X)", uint32(e))
	}
	return fmt.Sprintf("%s: %s (0x%08X)", t.name, t.text, uint32(e))
}

// Name is the name of the SCARD_ constant, or the number when it has none.
func (e Error) Name() string {
	if t, ok := errorTexts[e]; ok {
		return t.name
	}
	return fmt.Sprintf("0x%08X", uint32(e))
}

// Err is e as a Go error: nil for success.
func (e Error) Err() error {
	if e == ErrSuccess {
		return nil
	}
	return e
}
