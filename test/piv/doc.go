// Package piv holds the simulated PIV card against Debian's OpenSC, and both against our own daemon: the tools and
// opensc-pkcs11.so speak through the stock libpcsclite to pcscd-sim. Whatever is wrong between libpcsclite's socket and
// the card's keys shows here.
package piv
