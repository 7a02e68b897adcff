package path

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"pam_pkcs11/verify/internal/refusal"
)

// Finding is something to know about a file of ca_dir that is used.
type Finding struct {
	Path    string
	Text    string // English
	Restore string // the configuration key that brings back what the file meant before, "" when there is none
}

// Findings lists what `pam-pkcs11 config check` says of the certificates of ca_dir.
func (f *Finder) Findings() []Finding { return append(f.newFormFindings(), f.v1Findings()...) }

// LogNewForms writes the same to the log of a login, in one line for each file and without checking
// signatures: only first of its anchors are named.
func (f *Finder) LogNewForms(logger *slog.Logger) {
	const most = 5
	anchors, counts := map[string][]string{}, map[string]int{}
	for _, n := range f.Store.newForms {
		file := f.Store.origin[n.cert]
		counts[file]++
		if n.cert.SelfIssued() && len(anchors[file]) < most {
			anchors[file] = append(anchors[file], refusal.Clip(n.cert.Subject.RFC4514()))
		}
	}

	// Sorted, so that the same ca_dir always gives the same log.
	for _, file := range slices.Sorted(maps.Keys(counts)) {
		logger.Info("ca_dir: earlier releases did not read this file (see pam-pkcs11 config check)",
			"file", file, "certificates", counts[file], "anchors", strings.Join(anchors[file], "; "))
	}
}

// newFormFindings names the certificates, and which of them are anchors, of files whose form was
// not read before: they are trusted since, and nobody may remember that they are there.
func (f *Finder) newFormFindings() []Finding {
	var all []Finding
	for _, n := range f.Store.newForms {
		role := "may stand in a chain"
		if f.EndsChains(n.cert) {
			role = "is an anchor"
		}

		all = append(all, Finding{
			Path: f.Store.origin[n.cert],
			Text: fmt.Sprintf("%s %s; earlier releases did not read %s", refusal.Describe(n.cert), role, n.form),
		})
	}
	return all
}
