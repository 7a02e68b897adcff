package pamstack

import "slices"

// Jump is one control's way over other lines.
type Jump struct {
	From  Line
	On    []Result // the answers that take it
	Count int
	// the lines of its own level that are left out, the places where substacks begin without their
	// lines
	Skipped []Line
	To      *Line // where the walk goes on; nil is the end of the stack
	Beyond  bool  // it is longer than its stack, which libpam takes for a failure
}

// Jumps are all jumps of a kind, in the order of their lines.
func (s *Stack) Jumps(k Kind) []Jump {
	var jumps []Jump
	entries := s.entries(k)
	for at, line := range entries {
		var counts []Action
		// Several answers may have one number of lines: that is one jump.
		for _, r := range Results() {
			action := line.Control.On(r)
			if line.substack || !action.IsJump() {
				continue
			}
			if !slices.Contains(counts, action) {
				counts = append(counts, action)
			}
		}

		for _, count := range counts {
			jumps = append(jumps, jumpOf(entries, at, count))
		}
	}
	return jumps
}

// jumpOf follows the jump of one line.
func jumpOf(entries []Line, at int, count Action) Jump {
	j := Jump{From: entries[at], Count: int(count)}
	for _, r := range Results() {
		if j.From.Control.On(r) == count {
			j.On = append(j.On, r)
		}
	}

	landed, left := skip(entries, at, count)
	j.Beyond = left > 0
	// Lines of deeper levels belong to a substack, which counts as one line.
	for _, line := range entries[at+1 : landed+1] {
		if line.Level == j.From.Level && !line.substack {
			j.Skipped = append(j.Skipped, line)
		}
	}
	// Where a substack begins nothing is run: the walk goes on in its first line.
	for _, line := range entries[landed+1:] {
		if !line.substack {
			j.To = &line
			break
		}
	}
	return j
}

// ParseControl reads a control that is a word or a list in brackets; ok is false where libpam takes
// every answer for bad.
func ParseControl(text string) (c Control, ok bool) {
	words := &words{text}
	word, _, _ := words.next()
	if c, ok = keyword(word, text); ok {
		return c, true
	}
	return listed(word, text)
}

// WithControl is the stack with another control in the lines that match, for asking what would be
// without them.
func (s *Stack) WithControl(match func(Line) bool, c Control) *Stack {
	// The lists are copied before they are changed: the lines of s stay as they are.
	changed := *s
	for _, lists := range []*[kindCount][]Line{&changed.own, &changed.other} {
		for k, lines := range lists {
			lists[k] = slices.Clone(lines)
			for i, line := range lists[k] {
				if match(line) && !line.substack {
					lists[k][i].Control = c
				}
			}
		}
	}
	return &changed
}
