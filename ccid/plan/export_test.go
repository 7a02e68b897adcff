package plan

// NumberOfQuirks and Quirk show the table of quirks.
func NumberOfQuirks() int { return len(quirks) }

// Quirk is one row: numbers, range, name and reason.
func Quirk(i int) (vendor, product, from, to uint16, name, reason string) {
	q := &quirks[i]
	return q.vendor, q.product, q.from, q.to, q.name, q.reason
}
