// Package bundled has tests of the daemon that a login starts (card_access = auto and bundled): libpam, the module, its
// worker, the built-in card and pcscd are real, with a simulated reader, in a mount namespace with a /run of its own. They
// need root, and what `make build` builds.
package bundled
