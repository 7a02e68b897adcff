// Package cache remembers what PIV cards show to everybody: certificates and a few objects beside
// them, so that a login need not read from the card what this machine has read before. It has
// public data only, though that shows whose cards were here.
//
// An entry is found by the piece: the first bytes of the object of a certificate, which contain its
// length, serial number, issuer and dates. An entry may be wrong, since whoever makes a card may
// copy that piece from another one: it is a guess, which the card's signature confirms in the same
// login or not.
//
// Where the directory is not the user's own there is no cache, and a file in it that is not as this
// package writes it counts as absent: neither ends a login.
package cache
