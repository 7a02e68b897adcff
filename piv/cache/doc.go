// Package cache remembers what PIV cards have shown to everybody: certificates and a few objects
// beside them, so that a login need not read from the card what this machine has read before. It
// holds public data only, though it tells whose cards were here.
//
// An entry is found by the piece: the first bytes of the object of a certificate, which hold its
// length, serial number, issuer and dates. What an entry says may be wrong, since whoever makes a
// card may copy that piece from another: it is a guess, which the card's signature confirms in the
// same login or not.
//
// A directory that is not the user's own has no cache, and a file in it that is not as this package
// writes it is as good as none: neither ends a login.
package cache
