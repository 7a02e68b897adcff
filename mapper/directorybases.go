package mapper

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/internal/ldapconn"
)

// search asks each query below each base, in their order, and hands over one answer for a query: the entries
// of all bases together. An entry below two bases counts once.
func (d *directory) search(ctx context.Context, queries []ldapconn.Query, maxOctets int64, hear take) error {
	n := len(d.bases)
	each := make([]ldapconn.Query, 0, n*len(queries))
	for _, q := range queries {
		for _, base := range d.bases {
			q.Base = base
			each = append(each, q)
		}
	}

	var all ldapconn.Answer
	return d.ask(ctx, each, maxOctets, func(i int, a ldapconn.Answer) bool {
		if i%n == 0 {
			all = ldapconn.Answer{}
		}
		if a.Err != nil {
			all.Err = a.Err
		}
		for _, e := range a.Entries {
			if n == 1 || !slices.ContainsFunc(all.Entries, func(x ldapconn.Entry) bool { return x.DN == e.DN }) {
				all.Entries = append(all.Entries, e)
			}
		}
		return i%n < n-1 || hear(i/n, all)
	})
}

// where names the bases, for logs and explanations.
func (d *directory) where() string {
	names := make([]string, len(d.bases))
	for i, base := range d.bases {
		names[i] = fmt.Sprintf("%q", base)
	}
	return strings.Join(names, ", ")
}
