// Package tool has the sentences of the command-line tool in the user's language. A message id is
// the English sentence, as internal/message has it. They are apart from the module's, so that no
// login carries them.
package tool

import "pam_pkcs11/po"

// longest is the longest answer in bytes: with the paths and names in it a sentence stays a few
// lines.
const longest = 8 << 10

// New is po.New for the tool's sentences.
func New(languages []string) *po.Catalog { return po.From(translations, longest, languages) }
