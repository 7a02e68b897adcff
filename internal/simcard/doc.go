// Package simcard is a PIV card (NIST SP 800-73-4, parts 1 and 2) without the card: it answers command APDUs as one would. Keys
// and certificates are given to it. It is for tests and the demo, and not for keeping keys: they lie in memory, and no
// step is hardened against someone who measures it.
//
// Sections are those of SP 800-73-4 part 2, tables those of part 1, unless something else is named.
package simcard
