// Package pamstack compares internal/pamstack with the libpam that is installed: stacks made at random, and odd files,
// are read and run by both. Its tests need root, and run in a mount namespace of their own, with a directory of
// theirs over /etc/pam.d and /usr/lib/pam.d.
package pamstack
