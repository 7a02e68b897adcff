// Package data reads what a PIV card returns (NIST SP 800-73-4), and names it: the answers to
// SELECT and GET DATA, certificates in their containers, the state of a PIN, the extensions of
// Yubico, the structures for PIN pads (PC/SC part 10), the kinds of cards that need something
// special, and the names under which OpenSC shows a card.
//
// Everything here is a function of bytes: nothing is sent, waited for or kept. What comes from a
// card is bounded, and no function panics on it. Returned slices point into what was given, where
// nothing else is said.
//
// "Part 1" and "part 2" are those of SP 800-73-4.
package data
