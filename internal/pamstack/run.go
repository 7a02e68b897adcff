package pamstack

// Step is one line that was run.
type Step struct {
	Line   Line
	Result Result // what its module answered
	Action Action // what its control made of it
}

// Outcome is how a stack ended.
type Outcome struct {
	Result Result
	Path   []Step // in the order of running
}

// Ran reports whether a line of that module was run.
func (o Outcome) Ran(match func(Line) bool) bool {
	for _, step := range o.Path {
		if match(step.Line) {
			return true
		}
	}
	return false
}

// mustFail is what a line that cannot be read answers, and the answer when nothing decided.
const mustFail = PermDenied

// impression is what libpam thinks of a login so far.
type impression int8

const (
	undecided impression = 0
	positive  impression = 1
	negative  impression = -1
)

// state is what a stack has come to.
type state struct {
	impression impression
	status     Result
}

// settle lets a good answer count, unless something else was decided before.
func (s *state) settle(r Result, frozen bool, cached Result) {
	open := s.impression == undecided || s.impression == positive && s.status == Success
	// Later successes change a positive impression only while its status is success.
	counts := r != Ignore || !frozen || cached == r
	if open && counts {
		s.impression = positive
		s.status = r
	}
}

// fail lets a bad answer count, if it is the first.
func (s *state) fail(r Result) {
	if s.impression == negative {
		return
	}
	s.impression = negative
	s.status = r
	if r == Ignore {
		s.status = mustFail
	}
}

// Run walks a stack as pam_authenticate(3), pam_acct_mgmt(3), pam_open_session(3) and
// pam_chauthtok(3) do. The function tells what the module of a line answers; it is not asked for
// lines that libpam cannot read.
func (s *Stack) Run(k Kind, answer func(Line) Result) Outcome {
	return s.run(k, answer, nil)
}

// RunAgain walks the stack as pam_setcred(3) does after an authentication, and pam_close_session(3)
// after a session was opened: the way is that of the earlier outcome, as far as it went, and what
// is answered now only counts as good or bad. A line that was not run then goes by its own answer.
func (s *Stack) RunAgain(k Kind, earlier Outcome, answer func(Line) Result) Outcome {
	frozen := make(map[int]Result, len(earlier.Path))
	for _, step := range earlier.Path {
		frozen[step.Line.index] = step.Result
	}
	return s.run(k, answer, frozen)
}

// run walks a stack; frozen is nil, or has what lines answered on the way that is walked again.
func (s *Stack) run(k Kind, answer func(Line) Result, frozen map[int]Result) (out Outcome) {
	entries := s.entries(k)
	now := state{undecided, mustFail}
	entered := map[int]state{0: now} // what was so far when a substack was entered, by its level
	previous := 0

	for at := 0; at < len(entries); at++ {
		line := entries[at]
		if previous < line.Level {
			entered[line.Level] = now
		}
		previous = line.Level
		if line.substack {
			continue
		}

		result := mustFail
		if line.Broken.Empty() {
			result = answer(line)
		}

		// A module that is not ready ends the walk; the program calls again.
		if result == Incomplete {
			out.Result = Incomplete
			out.Path = append(out.Path, Step{line, result, ActDie})
			return out
		}
		// On a way that is walked again the earlier answer leads, and today's only counts.
		cached, found := frozen[line.index]
		if !found {
			cached = result
		}
		action := line.Control.On(cached)
		if cached < 0 || cached >= resultCount {
			result = mustFail
		}

		out.Path = append(out.Path, Step{line, result, action})

		at = step(entries, at, action, &now, entered, result, frozen != nil, cached)
	}

	// Success needs a line that says so: an empty stack, or one of ignored lines, lets nobody in.
	out.Result = now.status
	if now.status == Success && now.impression != positive {
		out.Result = mustFail
	}
	return out
}

// step does what the control says, and returns the index of the line behind which the walk goes on.
func step(entries []Line, at int, action Action, now *state, entered map[int]state, r Result,
	frozen bool, cached Result) int {
	level := entries[at].Level

	switch {
	case action == ActIgnore:
	case action == ActReset:
		*now = entered[level]
	case action == ActOK || action == ActDone:
		now.settle(r, frozen, cached)
		// done ends the stack only where nothing has failed before.
		if action == ActDone && now.impression == positive {
			return end(entries, at)
		}
	case action == ActBad || action == ActDie:
		now.fail(r)
		if action == ActDie {
			return end(entries, at)
		}
	case action.IsJump():
		landed, left := skip(entries, at, action)
		// Beyond the end libpam lets the stack fail.
		if left > 0 {
			*now = state{negative, mustFail}
		}
		return landed
	default: // an action that libpam does not know
		*now = state{negative, mustFail}
	}
	return at
}

// end is the last line of the substack that line at is in, with what that holds.
func end(entries []Line, at int) int {
	level := entries[at].Level
	for at+1 < len(entries) && entries[at+1].Level >= level {
		at++
	}
	return at
}

// skip is the last line that a jump leaves out, and how many more lines it should have left out
// than its stack has. A substack counts as one line.
func skip(entries []Line, at int, jump Action) (landed int, left Action) {
	level := entries[at].Level
	for jump > 0 && at+1 < len(entries) && entries[at+1].Level >= level {
		// The lines of a substack go with the place where it begins.
		at++
		for at+1 < len(entries) && entries[at+1].Level > level {
			at++
		}
		jump--
	}
	return at, jump
}
