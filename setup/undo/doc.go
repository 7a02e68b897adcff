// Package undo remembers what `pam-pkcs11 setup` changes, and takes it back byte for byte.
//
// A Store is the directory /var/lib/pam_pkcs11/setup of a machine, or of a machine that is mounted
// below another directory. Each setup has a numbered record in it: manifest.json, and below before/
// a copy of each file as it was. The record is on the disk before the first file is changed, so
// that a setup that was cut short can be taken back too.
//
// Nothing here needs a card, a daemon, a configuration or D-Bus. What was edited since is found by
// content, is not overwritten, and is named.
package undo
