package finding

import "strings"

// DidYouMean names the candidate nearest to a word, as a hint, or nothing when none is near.
func DidYouMean(word string, candidates []string) string {
	word = strings.ToLower(word)

	// A third of the letters may differ, and one more: beyond that a hint misleads.
	best, distance := "", len(word)/3+2

	for _, c := range candidates {
		if d := Distance(word, strings.ToLower(c), distance); d < distance {
			best, distance = c, d
		}
	}

	if best == "" {
		return ""
	}
	return "did you mean " + best + "?"
}

// Distance counts insertions, deletions, replacements and exchanges of two neighbours (optimal
// string alignment) that make b of a; limit or more is limit.
func Distance(a, b string, limit int) int {
	// The words may come from the file: their length must not decide how long this takes.
	tooLong := len(a) > 64 || len(b) > 64
	if tooLong || len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}

	// Three rows of the table are enough: an exchange of two neighbours looks back two rows.
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}

	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}

			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)

			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}

		// The oldest row is used again for the next one.
		oldest := before
		before = last
		last = row
		row = oldest
	}

	return min(last[len(b)], limit)
}
