package iso7816

import "fmt"

// Status is the status word SW1-SW2 at the end of a response (ISO/IEC 7816-4:2013, 5.3.4). As an
// error its text is the meaning of the word.
type Status uint16

// Status words that programs decide on.
const (
	StatusOK                  Status = 0x9000
	StatusVerifyFailed        Status = 0x6300 // no counter given; 63Cx gives one, see Tries
	StatusMemoryFailure       Status = 0x6581
	StatusWrongLength         Status = 0x6700
	StatusChannelUnsupported  Status = 0x6881
	StatusSecureUnsupported   Status = 0x6882
	StatusLastExpected        Status = 0x6883 // last command of the chain expected
	StatusChainingUnsupported Status = 0x6884
	StatusSecurity            Status = 0x6982 // security status not satisfied
	StatusBlocked             Status = 0x6983 // authentication method blocked
	StatusConditions          Status = 0x6985 // conditions of use not satisfied
	StatusWrongData           Status = 0x6A80
	StatusFunction            Status = 0x6A81 // function not supported
	StatusFileNotFound        Status = 0x6A82
	StatusNoMemory            Status = 0x6A84
	StatusWrongP1P2           Status = 0x6A86
	StatusNoReference         Status = 0x6A88 // referenced data not found
	StatusWrongINS            Status = 0x6D00
	StatusWrongCLA            Status = 0x6E00
	StatusUnknown             Status = 0x6F00 // no precise diagnosis
)

// statusText holds the words whose meaning part 4 fixes.
var statusText = map[Status]string{
	0x9000: "success",
	0x6200: "warning",
	0x6281: "part of the data may be corrupted",
	0x6282: "end of file reached before all bytes were read",
	0x6283: "selected file deactivated",
	0x6284: "file control information not formatted as it should be",
	0x6285: "selected file in termination state",
	0x6286: "no input data from a sensor of the card",
	0x6300: "verification failed",
	0x6381: "file filled up by the last write",
	0x6400: "execution error",
	0x6401: "immediate response required by the card",
	0x6500: "execution error, memory changed",
	0x6581: "memory failure",
	0x6600: "security error",
	0x6700: "wrong length",
	0x6800: "function in CLA not supported",
	0x6881: "logical channel not supported",
	0x6882: "secure messaging not supported",
	0x6883: "last command of the chain expected",
	0x6884: "command chaining not supported",
	0x6900: "command not allowed",
	0x6981: "command incompatible with file structure",
	0x6982: "security status not satisfied",
	0x6983: "authentication method blocked",
	0x6984: "reference data not usable",
	0x6985: "conditions of use not satisfied",
	0x6986: "command not allowed, no file selected",
	0x6987: "secure messaging data objects missing",
	0x6988: "secure messaging data objects incorrect",
	0x6A00: "wrong parameters",
	0x6A80: "wrong data",
	0x6A81: "function not supported",
	0x6A82: "file or application not found",
	0x6A83: "record not found",
	0x6A84: "not enough memory in the file",
	0x6A85: "Nc inconsistent with TLV structure",
	0x6A86: "wrong parameters P1-P2",
	0x6A87: "Nc inconsistent with P1-P2",
	0x6A88: "referenced data not found",
	0x6A89: "file already exists",
	0x6A8A: "name already exists",
	0x6B00: "wrong parameters P1-P2",
	0x6D00: "instruction not supported",
	0x6E00: "class not supported",
	0x6F00: "no precise diagnosis",
}

// SW1 is the first byte.
func (s Status) SW1() byte { return byte(s >> 8) }

// SW2 is the second byte.
func (s Status) SW2() byte { return byte(s) }

// OK reports whether the command was executed without a warning: 9000, or 61xx where more data
// waits.
func (s Status) OK() bool { return s == StatusOK || s.SW1() == 0x61 }

// Err is nil when OK, else s.
func (s Status) Err() error {
	if s.OK() {
		return nil
	}
	return s
}

// More is the number of bytes that wait for GET RESPONSE, 1 to 256, after 61xx; not ok after any
// other word.
func (s Status) More() (n int, ok bool) { return fromLe(int(s.SW2()), MaxShortNe), s.SW1() == 0x61 }

// RightLe is the Le with which the card wants the command again, 1 to 256, after 6Cxx; not ok after
// any other word.
func (s Status) RightLe() (n int, ok bool) { return fromLe(int(s.SW2()), MaxShortNe), s.SW1() == 0x6C }

// Tries is the number of further tries after 63Cx, 0 to 15; not ok after any other word.
func (s Status) Tries() (n int, ok bool) { return int(s & 0x0F), s&0xFFF0 == 0x63C0 }

// StatusTries is 63Cx with a number of tries, at most 15.
func StatusTries(n int) Status { return 0x63C0 | Status(max(0, min(n, 15))) }

// String is the word in hexadecimal and what it means, "6A82 file or application not found".
func (s Status) String() string { return fmt.Sprintf("%04X %s", uint16(s), s.meaning()) }

// Error is String.
func (s Status) Error() string { return s.String() }

// meaning is the word's meaning in part 4, or that of its SW1 where SW2 is not listed.
func (s Status) meaning() string {
	if text, ok := statusText[s]; ok {
		return text
	}

	n, sw1 := int(s.SW2()), s.SW1()
	switch {
	case sw1 == 0x61:
		return fmt.Sprintf("success, %d bytes wait", fromLe(n, MaxShortNe))
	case sw1 == 0x6C:
		return fmt.Sprintf("wrong Le, %d is right", fromLe(n, MaxShortNe))
	case s&0xFFF0 == 0x63C0:
		return fmt.Sprintf("verification failed, %d tries left", n&0x0F)
	case (sw1 == 0x62 || sw1 == 0x64) && n >= 2 && n <= 0x80:
		// "Triggering by the card": SW2 is the length of the query to fetch from it.
		return fmt.Sprintf("the card has a query of %d bytes", n)
	case sw1 < 0x60 || sw1 > 0x6F && sw1&0xF0 != 0x90 || sw1 == 0x60:
		// 60 is the NULL byte of T=0; status words begin with 6 or 9.
		return "not a status word"
	}

	// An SW2 that is not listed leaves the meaning of SW1. 9000 alone is success, so that 90xx has
	// none.
	if text, ok := statusText[Status(sw1)<<8]; ok && sw1 != 0x90 {
		return text
	}
	return "of the card's own meaning"
}
