// Package linediff compares two texts by lines, for people: the form is that of diff -u.
package linediff

import (
	"fmt"
	"strings"
)

// maxTable bounds the work of one comparison: the product of the numbers of lines between the first
// and the last difference. Larger ones are shown as one block that is exchanged.
const maxTable = 4 << 20

// Unified returns the lines of a unified diff with that many lines of context, without the lines
// that name the files; nil where the texts are equal.
func Unified(before, after string, context int) []string {
	edits := compare(split(before), split(after))

	var out []string
	for _, h := range hunks(edits, context) {
		out = append(out, h.head(edits))
		for _, e := range edits[h.from:h.to] {
			out = append(out, string(e.sign)+e.line)
		}
	}
	return out
}

// edit is one line: ' ' in both texts, '-' in the first, '+' in the second.
type edit struct {
	sign byte
	line string
}

// split cuts a text into lines. A last line without an end is marked, as diff(1) does.
func split(text string) []string {
	if text == "" {
		return nil
	}
	whole, ended := strings.CutSuffix(text, "\n")
	lines := strings.Split(whole, "\n")
	if !ended {
		lines[len(lines)-1] += "\n\\ No newline at end of file"
	}
	return lines
}

// compare finds a longest common subsequence.
func compare(a, b []string) []edit {
	// Equal lines at both ends are part of it in any case: without them the table is small.
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append([]edit{{' ', a[len(a)-1]}}, tail...)
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return append(append(head, middle(a, b)...), tail...)
}

// middle compares what is left between the first and the last difference.
func middle(a, b []string) []edit {
	var out []edit
	// The table grows with the product: a large file must not take all of the memory.
	if len(a)*len(b) > maxTable {
		for _, line := range a {
			out = append(out, edit{'-', line})
		}
		for _, line := range b {
			out = append(out, edit{'+', line})
		}
		return out
	}

	// longest[i][j] is that of a[i:] and b[j:].
	longest := make([][]int32, len(a)+1)
	for i := range longest {
		longest[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}

	// The table is followed from its beginning; where both ways are as long, deletions come first.
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, edit{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || longest[i+1][j] >= longest[i][j+1]):
			out = append(out, edit{'-', a[i]})
			i++
		default:
			out = append(out, edit{'+', b[j]})
			j++
		}
	}
	return out
}

// hunk is a range of edits that is shown.
type hunk struct{ from, to int }

// hunks are the differences with their context; those that touch are one.
func hunks(edits []edit, context int) []hunk {
	var all []hunk
	for i, e := range edits {
		if e.sign == ' ' {
			continue
		}

		from := max(0, i-context)
		to := min(len(edits), i+1+context)
		if n := len(all); n > 0 && all[n-1].to >= from {
			all[n-1].to = to
			continue
		}

		all = append(all, hunk{from, to})
	}
	return all
}

// head is the line "@@ -a,b +c,d @@".
func (h hunk) head(edits []edit) string {
	place := func(other byte) string {
		first, count := 0, 0
		for i, e := range edits[:h.to] {
			switch {
			case e.sign == other:
			case i < h.from:
				first++
			default:
				count++
			}
		}
		if count > 0 {
			first++ // lines count from 1; an empty range is named by the line before it
		}
		return fmt.Sprintf("%d,%d", first, count)
	}
	return fmt.Sprintf("@@ -%s +%s @@", place('+'), place('-'))
}
