package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The limits of a text that comes from another process.
const (
	maxEncoded  = 64 << 10 // bytes of JSON
	maxArgs     = 16       // of one text
	maxSentence = 4        // texts in texts
	maxFlags    = 5        // characters between % and its verb
)

// Encoded is a Text on its way to another process, which translates it: its JSON holds the format,
// by which the catalogue knows the sentence, and each argument as its verb writes it.
//
// What was decoded prints as the original does. Decoding fails where the JSON is longer than 64
// KiB, a text has more than 16 arguments or other verbs than arguments, or texts are nested deeper
// than 4.
type Encoded Text

// Text is the sentence.
func (e Encoded) Text() Text { return Text(e) }

// Empty reports whether there is nothing to say.
func (e Encoded) Empty() bool { return Text(e).Empty() }

// encoding is the JSON of a text.
type encoding struct {
	Format string        `json:"format"`
	Args   []encodingArg `json:"args,omitempty"`
}

// encodingArg is an argument: a text of its own, or what its verb writes.
type encodingArg struct {
	Sentence *encoding `json:"sentence,omitempty"`
	Written  string    `json:"written,omitempty"`
}

// MarshalJSON gives the format and the arguments.
func (e Encoded) MarshalJSON() ([]byte, error) { return json.Marshal(encode(Text(e), 1)) }

// encode takes a text apart. One whose verbs may not be those of its arguments is written in
// English, as a whole.
func encode(t Text, depth int) *encoding {
	verbs, plain := verbsOf(t.Format)

	// The reader on the other side refuses more than these: English is better than nothing.
	tooMany := len(t.Args) > maxArgs || depth > maxSentence
	mismatch := !plain || len(verbs) != len(t.Args)
	if len(t.Args) > 0 && (mismatch || tooMany) {
		return &encoding{Format: t.String()}
	}

	all := &encoding{Format: t.Format}
	for i, a := range t.Args {
		arg := encodingArg{}
		if inner, ok := a.(Text); ok && depth < maxSentence {
			arg.Sentence = encode(inner, depth+1)
		} else {
			arg.Written = fmt.Sprintf(verbs[i], a)
		}
		all.Args = append(all.Args, arg)
	}
	return all
}

// UnmarshalJSON reads what MarshalJSON gave.
func (e *Encoded) UnmarshalJSON(data []byte) error {
	if len(data) > maxEncoded {
		return fmt.Errorf("a sentence of %d bytes", len(data))
	}

	var all encoding
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}

	text, err := all.text(1)
	if err == nil {
		*e = Encoded(text)
	}
	return err
}

// text puts a text together again.
func (e *encoding) text(depth int) (Text, error) {
	if depth > maxSentence || len(e.Args) > maxArgs {
		return Text{}, errors.New("a sentence with too many others in it")
	}

	t := Text{Format: e.Format}
	if len(e.Args) == 0 {
		return t, nil
	}

	// A format with other verbs would print complaints of fmt to the user.
	verbs, plain := verbsOf(e.Format)
	if !plain || len(verbs) != len(e.Args) {
		return Text{}, fmt.Errorf("the sentence %q has %d arguments", e.Format, len(e.Args))
	}

	for _, a := range e.Args {
		if a.Sentence == nil {
			t.Args = append(t.Args, written(a.Written))
			continue
		}
		inner, err := a.Sentence.text(depth + 1)
		if err != nil {
			return Text{}, err
		}
		t.Args = append(t.Args, inner)
	}

	return t, nil
}

// written is an argument that its verb has written already.
type written string

// Format writes it as it is. It implements fmt.Formatter.
func (w written) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, string(w)) }

// verbsOf are the verbs of a format, each with its flags, in their order. plain is false where an
// argument is not simply that of its turn ("%[2]s", "%*d"), a verb is cut off, or a width is
// absurd.
func verbsOf(format string) (verbs []string, plain bool) {
	for {
		at := strings.IndexByte(format, '%')
		if at < 0 {
			return verbs, true
		}

		// The verb is what follows the flags, the width and the precision.
		format = format[at:]
		flags := 1 + len(format[1:]) - len(strings.TrimLeft(format[1:], "+-# .0123456789"))
		verb, size := utf8.DecodeRuneInString(format[flags:])

		switch {
		// A wide width would make the other process write as many blanks.
		case size == 0 || verb == utf8.RuneError || strings.ContainsRune("[]*", verb) ||
			flags > 1+maxFlags:
			return nil, false
		case verb != '%':
			verbs = append(verbs, format[:flags+size])
		}

		format = format[flags+size:]
	}
}
