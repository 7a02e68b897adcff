// Package endings holds the table of how a login can end: every row is a card, a configuration and a
// conversation played through the real libpam, and the code, the messages, PAM_USER, the environment and
// the number of PINs sent that must come of it. Its tests run the module as built and once more without
// the linker flag that holds Go's runtime back.
package endings
