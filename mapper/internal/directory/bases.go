package directory

import (
	"fmt"
	"slices"
	"strings"

	"pam_pkcs11/internal/ldapconn"
)

// belowBases adds to the round one search below each base for each query, in their order, and hands
// one answer for a query on: the entries of all bases together. An entry below two bases counts
// once. Queries that are added to the round afterwards have their own base; the index of their
// answers goes on from the queries given here.
func (d *Directory) belowBases(r *round, queries []ldapconn.Query) {
	n := len(d.Bases)
	for _, q := range queries {
		for _, base := range d.Bases {
			q.Base = base
			r.queries = append(r.queries, q)
		}
	}

	var all ldapconn.Answer
	receive := r.receive
	r.receive = func(i int, a ldapconn.Answer) bool {
		// A query behind these: its index shrinks by the searches that the further bases added.
		if i >= n*len(queries) {
			return receive(i-(n-1)*len(queries), a)
		}

		if i%n == 0 {
			all = ldapconn.Answer{}
		}
		if a.Err != nil {
			all.Err = a.Err
		}

		for _, e := range a.Entries {
			isSame := func(x ldapconn.Entry) bool { return x.DN == e.DN }
			if n == 1 || !slices.ContainsFunc(all.Entries, isSame) {
				all.Entries = append(all.Entries, e)
			}
		}

		// The answer is complete with that of the last base.
		return i%n < n-1 || receive(i/n, all)
	}
}

// where returns the bases, for logs and explanations.
func (d *Directory) where() string {
	names := make([]string, len(d.Bases))
	for i, base := range d.Bases {
		names[i] = fmt.Sprintf("%q", base)
	}
	return strings.Join(names, ", ")
}
