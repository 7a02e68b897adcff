// Package simcard is a PIV card (NIST SP 800-73-4, parts 1 and 2) without the card: it answers
// command APDUs as one would. Keys and certificates are given to it. It is for tests and the demo,
// and not for keeping keys: they lie in memory, and no step is hardened against someone who
// measures it.
//
// Without options it is the card of the specification. Real cards differ, and a login has to get
// along with them: each difference is a switch in Options. Package models has those cards that
// exist as options, and the time that cards take; package container the forms of a certificate.
// OpenSC and yubico-piv-tool check what they can (test/piv); for the rest the switch names its
// source.
//
// Sections are those of SP 800-73-4 part 2, tables those of part 1, unless something else is named.
package simcard
