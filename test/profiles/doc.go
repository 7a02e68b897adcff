// Package profiles lets Debian's pam-auth-update write the stacks of the packages' profiles, and asks of each who gets in
// by what. Its tests need root, and run in a mount namespace of their own, with copies over all that pam-auth-update
// writes. What the same stacks do with real programs is in package test/hosts.
package profiles
