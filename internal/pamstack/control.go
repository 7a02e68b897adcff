package pamstack

import (
	"strconv"
	"strings"
)

// Action is what a control does with an answer. A number above 0 is a jump over so many lines.
type Action int32

const (
	ActIgnore Action = 0
	ActOK     Action = -1
	ActDone   Action = -2
	ActBad    Action = -3
	ActDie    Action = -4
	ActReset  Action = -5

	actUndefined Action = -6
)

// actionNames are the words of the actions, by their negated numbers.
var actionNames = []string{"ignore", "ok", "done", "bad", "die", "reset"}

// String is the word of pam.conf(5), or the number of a jump.
func (a Action) String() string {
	if a <= 0 && a > actUndefined {
		return actionNames[-a]
	}
	return strconv.Itoa(int(a))
}

// IsJump reports whether the action skips lines.
func (a Action) IsJump() bool { return a > 0 }

// Control says for each answer of a module what becomes of it.
type Control struct {
	Text    string // as written: required, [success=1 default=ignore]
	actions [resultCount]Action
}

// On is what the control does with an answer. An answer that libpam does not know is bad.
func (c Control) On(r Result) Action {
	if r < 0 || r >= resultCount {
		return ActBad
	}
	return c.actions[r]
}

// undefined is a control of which nothing is said yet.
func undefined(text string) Control {
	c := Control{Text: text}
	for i := range c.actions {
		c.actions[i] = actUndefined
	}
	return c
}

// fill sets what is not said yet.
func (c *Control) fill(a Action) {
	for i := range c.actions {
		if c.actions[i] == actUndefined {
			c.actions[i] = a
		}
	}
}

// all sets everything.
func (c *Control) all(a Action) {
	for i := range c.actions {
		c.actions[i] = a
	}
}

// keyword reads one of the four words; false is for everything else.
func keyword(word, text string) (Control, bool) {
	c := undefined(text)

	success, other := ActOK, ActBad
	switch lower(word) {
	case "required":
		c.actions[Ignore] = ActIgnore
	case "requisite":
		c.actions[Ignore] = ActIgnore
		other = ActDie
	case "optional":
		other = ActIgnore
	case "sufficient":
		success = ActDone
		other = ActIgnore
	default:
		return c, false
	}

	// A password that must be changed is right: the account phase asks for the new one.
	c.actions[Success] = success
	c.actions[NewAuthtokReqd] = success
	c.fill(other)
	return c, true
}

// listed reads what stands in brackets. Where it cannot be read libpam takes every answer as bad,
// and ok is false.
func listed(list, text string) (c Control, ok bool) {
	c = undefined(text)
	rest := list
	for {
		rest = strings.TrimLeft(rest, cSpace)
		if rest == "" {
			c.fill(ActBad)
			return c, true
		}
		if rest, ok = c.pair(rest); !ok {
			c.all(ActBad)
			return c, false
		}
	}
}

// cSpace is isspace(3) in the C locale.
const cSpace = " \t\n\v\f\r"

// pair reads one "answer=action" and returns what follows.
func (c *Control) pair(text string) (rest string, ok bool) {
	answer, rest := beginsWith(text, append(resultNames[:], "default"))
	rest = strings.TrimLeft(rest, cSpace)
	if answer < 0 || !strings.HasPrefix(rest, "=") {
		return rest, false
	}
	rest = strings.TrimLeft(rest[1:], cSpace)

	var action Action
	if word, after := beginsWith(rest, actionNames); word >= 0 {
		action, rest = Action(-word), after
	} else if action, rest, ok = jump(rest); !ok {
		return rest, false
	}

	if answer == resultCount {
		c.fill(action) // default: for those that were not named up to here
	} else {
		c.actions[answer] = action
	}
	return rest, true
}

// beginsWith finds the word at the head of a text, -1 if it is none of them, and returns what
// follows. No blank is needed behind it.
func beginsWith(text string, words []string) (index int, rest string) {
	for i, word := range words {
		if after, found := strings.CutPrefix(text, word); found {
			return i, after
		}
	}
	return -1, text
}

// jump reads a number above 0. As in libpam it wraps as a C int does, so that a huge one may mean
// anything.
func jump(text string) (a Action, rest string, ok bool) {
	digits := 0
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		a = a*10 + Action(text[digits]-'0')
		digits++
	}
	return a, text[digits:], a != 0
}

// lower is the text with A to Z in lower case, as strcasecmp(3) compares.
func lower(text string) string {
	folded := []byte(text)
	for i, b := range folded {
		if b >= 'A' && b <= 'Z' {
			folded[i] = b + 'a' - 'A'
		}
	}
	return string(folded)
}
