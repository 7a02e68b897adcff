// Package profiles lets Debian's pam-auth-update write the stacks of the packages' profiles, and
// asks of each who gets in by what: of doctor's evaluator, and of the real libpam with the module
// and the worker as they are built and a simulated card (matrix.txt has the table). Its tests need
// root, and run in a mount namespace of their own, with copies over all that is written. What the
// same stacks do with real programs is in package test/hosts.
package profiles
