// Package config reads pam_pkcs11.conf: a file in the scconf grammar of pam_pkcs11, checked against a
// schema that knows every key.
//
// The way of a file: lex.go (lexemes with their place), parse.go (a tree of blocks and settings),
// keys_*.go (the tables: each key with its type, default and line of documentation), values.go
// (settings against the table, defaults applied), build.go (the typed Config), check.go (what is worth
// telling about a file that loads), write.go (a tree back to text, comments kept).
//
// Files written for the C module keep working. Where that module silently read something else than what
// was written, the file is read as it was meant; where this would be looser than what was in force, it
// is refused (misread.go).
package config
