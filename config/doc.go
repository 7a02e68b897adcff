// Package config reads pam_pkcs11.conf: a file in the scconf grammar of pam_pkcs11, checked against
// a schema that knows every key.
//
// The way of a file: internal/scconf (a tree of blocks and settings, each word with its place),
// internal/schema (the settings of a block against the table of its keys, defaults applied),
// build*.go (the typed Config, with a type of package mappers for each mapper), check.go and
// differences*.go (what is worth a note in a file that loads). Whatever is reported is an error or
// a note of internal/finding.
//
// Files written for the C module keep working. Where that module silently read something else than
// what was written, the file is read as it was meant; where this would be looser than what was in
// force, it is refused.
package config
