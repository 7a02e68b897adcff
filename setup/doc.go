// Package setup brings smart-card login onto a machine: it finds the card, decides with the
// administrator whom it names and why it is trusted, rehearses the change where nobody is hurt,
// shows it, makes it, and can take it back (package undo).
//
// The order is told in steps.go. The rehearsal is a process in a mount namespace of its own, with
// copies over all that would be changed (stage.go): there the distribution's own tool writes the
// PAM stack, the real libpam logs the user in, and the lock-out guard looks at the result. Nothing
// of the machine is changed before that has gone well and the administrator has agreed.
//
// No wrong PIN is ever sent to a card: where a login by password is tried with the card in, the
// question for the PIN is answered with nothing.
package setup
