// Package iso7816 is what ISO/IEC 7816-3 and 7816-4 say of the bytes between a reader and a contact
// card: the answer to reset, the choice of parameters (PPS), command APDUs, status words, and the
// transmission protocols T=0 and T=1, each in both roles.
//
// Everything here is pure: no clock, no goroutine, no waiting. An engine is stepped by its driver,
// which sends what a step has, waits as long as the ATR allows, and gives the engine what came
// back. No function panics on input.
//
// Sections are those of ISO/IEC 7816-3:2006 unless another part is named.
package iso7816
