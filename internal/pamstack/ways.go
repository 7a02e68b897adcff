package pamstack

import "strings"

// maxWays bounds what Ways looks at.
const maxWays = 1 << 14

// Answers are what modules may say, each with several answers where it is not known which. The key
// is a module's file, such as "pam_unix.so", or that with its arguments, separated by blanks, which
// comes first: "pam_succeed_if.so user ingroup smartcard".
type Answers map[string][]Result

// Unknown is what a module of which nothing is known may say: yes, no, and nothing.
func Unknown() []Result { return []Result{Success, AuthErr, Ignore} }

// Of is what a line's module may say: Unknown, if nothing is said of it.
func (a Answers) Of(line Line) []Result {
	// What is said of a module with these arguments comes before what is said of the module.
	withArguments := strings.Join(append([]string{line.Name()}, line.Args...), " ")
	for _, key := range []string{withArguments, line.Name()} {
		if answers := a[key]; len(answers) > 0 {
			return answers
		}
	}
	return Unknown()
}

// Ways are all courses that a stack can take when its modules say what they may. Beyond 16,384 of
// them it gives up, and complete is false.
func (s *Stack) Ways(k Kind, of func(Line) []Result) (ways []Outcome, complete bool) {
	var chosen []int // the answer that each line that was asked gave, by its place in the course

	for len(ways) < maxWays {
		var choices []int // how many answers each had
		// Each line that is asked takes the answer that was chosen for its place, at first the
		// first one.
		way := s.Run(k, func(line Line) Result {
			at := len(choices)
			if at == len(chosen) {
				chosen = append(chosen, 0)
			}
			answers := of(line)
			choices = append(choices, len(answers))
			return answers[chosen[at]]
		})
		ways = append(ways, way)

		// The next course is the same up to the last line that has one more answer to give.
		last := len(choices) - 1
		for last >= 0 && chosen[last]+1 >= choices[last] {
			last--
		}
		if last < 0 {
			return ways, true
		}
		chosen = append(chosen[:last], chosen[last]+1)
	}
	return ways, false
}

// Successes are those of several courses that let somebody in.
func Successes(ways []Outcome) []Outcome {
	var in []Outcome
	for _, way := range ways {
		if way.Result == Success {
			in = append(in, way)
		}
	}
	return in
}
