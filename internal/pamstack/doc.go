// Package pamstack reads the stacks of PAM as libpam does, and says how they end.
//
// It answers questions that a tool must not try out on a living machine: does a password still let
// somebody in when the card's module answers so? Does this jump reach beyond the end? Nothing is
// loaded and nobody is asked: what a module would answer is told by the caller.
//
// The reader and the evaluator follow libpam 1.5.2 to the letter, faults included, since a lock-out
// is made of such letters: a line of more than 1023 bytes is two lines, a file that is a directory
// is empty, and CRLF makes another module name. Debian's libpam differs from the original
// (@include; an included file is looked for in /etc/pam.d alone), and Load takes the rules of the
// machine that it reads. package test/pamstack compares both halves with the libpam that is
// installed.
//
// Sources: pam.conf(5), pam_start(3), and libpam's pam_handlers.c, pam_misc.c and pam_dispatch.c.
package pamstack
