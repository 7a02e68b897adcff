package directory

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/internal/ldapconn"
)

// belowBases adds to the round one search below each base for each query, in their order, and hands
// over one answer for a query: the entries of all bases together. An entry below two bases counts
// once. Queries that the round gets after that have their own base, and their answers are counted
// on.
func (d *Directory) belowBases(r *round, queries []ldapconn.Query) {
	n := len(d.Bases)
	for _, q := range queries {
		for _, base := range d.Bases {
			q.Base = base
			r.queries = append(r.queries, q)
		}
	}

	var all ldapconn.Answer
	hear := r.hear
	r.hear = func(i int, a ldapconn.Answer) bool {
		if i >= n*len(queries) {
			return hear(i-(n-1)*len(queries), a)
		}
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
	}
}

// where names the bases, for logs and explanations.
func (d *Directory) where() string {
	names := make([]string, len(d.Bases))
	for i, base := range d.Bases {
		names[i] = fmt.Sprintf("%q", base)
	}
	return strings.Join(names, ", ")
}
