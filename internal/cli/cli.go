// Package cli holds the conventions of the command-line programs.
//
// What was asked for goes to standard output and nothing else does; everything that is said about
// the work goes to standard error, one line each, "program: what happened", without a capital at
// its start or a full stop at its end. Where a cause is in a file the line reads "file:line:column:
// what is wrong", as compilers write it, so that editors can jump there. A hint follows in
// brackets. Nothing is coloured, nothing depends on the width of the terminal, and the output is
// the same in a pipe. A program says nothing when all is well and nothing was asked.
//
// A PIN is only ever typed at a prompt on the terminal, never given as an argument, in the
// environment or in a file.
//
// Exit codes: 0 when the answer is yes or the work is done; 1 when the answer is no or the work
// could not be done; 2 when the program was called in a way it does not understand. A subcommand
// with more kinds of failure uses the codes of sysexits.h and says so in its manual
// page; where 2 is an answer of its own, that is the worst one, and wrong calls end with 64.
package cli

import (
	"errors"
	"fmt"
	"io"
)

// The exit codes of all programs.
const (
	OK      = 0 // the answer is yes, or the work is done
	Failure = 1 // the answer is no, or the work could not be done
	Usage   = 2 // the program was called in a way it does not understand

	UsageBeside2 = 64 // EX_USAGE: as Usage, of a subcommand whose 2 is an answer

	DataErr     = 65 // EX_DATAERR: what was read cannot be used
	Unavailable = 69 // EX_UNAVAILABLE: somebody else's service gave nothing
	TempFail    = 75 // EX_TEMPFAIL: not all could be done, and a later try may do
	NoPerm      = 77 // EX_NOPERM: the caller is not allowed to do this
	Config      = 78 // EX_CONFIG: the configuration has errors
)

// Error is a failure with an exit code of its own.
type Error struct {
	Code int   // the exit code, 1 to 255
	Err  error // what is said on standard error; nil when all has been said
}

// Error returns the text of the cause, or "" when there is nothing left to say.
func (e *Error) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Exit reports how a program ended and returns its exit code: OK without a word when err is nil,
// the code of an Error, else Failure.
func Exit(stderr io.Writer, program string, err error) int {
	if err == nil {
		return OK
	}
	if text := err.Error(); text != "" {
		fmt.Fprintf(stderr, "%s: %s\n", program, text)
	}

	// An empty text means that everything has been said: only the code is left.
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Failure
}
