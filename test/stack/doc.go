// Package stack holds the tests of the whole way of a login with the built-in card: libpam, the PAM
// module and its worker, package piv, the PC/SC daemon, the CCID driver and a simulated USB reader
// with a PIV card in it. The cut is at the USB transfers: everything above them is what a machine
// runs.
//
// A login goes one of two ways. Through libpam, with a worker and where it is said with the daemon
// as a process of its own; or, where hundreds of logins are swept through, from login.Authenticator
// on in this process, over the daemon's socket, driver and reader, which are the same.
package stack
