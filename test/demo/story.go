package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"pam_pkcs11/test/libpam"
	"pam_pkcs11/test/scene"
)

// act is one login attempt of the story.
type act struct {
	title   string
	service string   // the service, which is called like the card in the reader
	card    string   // where that is another
	user    string   // the name given, "" asks whose card it is
	answers []string // what is typed at the prompts
	code    string   // how libpam must answer
	says    string   // what the user must be told, "" for nothing in particular
	pins    int      // how many PINs the card may get
	pulled  bool     // the card is pulled while the user types
	way     bool     // the joints of the way are shown
}

var acts = []act{
	{
		title:   "alice logs in",
		service: "alice",
		user:    "alice",
		answers: []string{pin},
		code:    "PAM_SUCCESS",
		says:    "Welcome alice",
		pins:    1,
		way:     true,
	},
	{
		title:   "nobody gives a name: the card knows whose it is",
		service: "alice",
		answers: []string{pin},
		code:    "PAM_SUCCESS",
		says:    "Welcome alice",
		pins:    1,
	},
	{
		title:   "alice mistypes her PIN",
		service: "alice",
		user:    "alice",
		answers: []string{"271829"},
		code:    "PAM_AUTH_ERR",
		says:    "Error 2320",
		pins:    1,
	},
	{
		title:   "the next prompt says how many tries are left",
		service: "alice",
		user:    "alice",
		answers: []string{pin},
		code:    "PAM_SUCCESS",
		says:    "2 tries are left",
		pins:    1,
	},
	{
		title:   "alice presses Return at once",
		service: "alice",
		user:    "alice",
		answers: []string{""},
		code:    "PAM_AUTH_ERR",
		says:    "Error 2318",
	},
	{
		title:   "alice types her password at the wrong prompt: the card does not get it",
		service: "alice",
		user:    "alice",
		answers: []string{password},
		code:    "PAM_AUTH_ERR",
		says:    "Error 2366",
	},
	{
		title:   "alice pulls the card while she types",
		service: "alice",
		user:    "alice",
		answers: []string{pin},
		code:    "PAM_AUTHINFO_UNAVAIL",
		says:    "Error 2368",
		pulled:  true,
	},
	{
		title:   "her certificate expired yesterday",
		service: "expired",
		user:    "alice",
		code:    "PAM_CRED_INSUFFICIENT",
		says:    "Error 2324",
	},
	{
		title:   "her certificate is from a CA that nobody here trusts",
		service: "stranger",
		user:    "alice",
		code:    "PAM_CRED_INSUFFICIENT",
		says:    "Error 2354",
	},
	{
		title:   "bob's card is in the reader",
		service: "bob",
		user:    "alice",
		code:    "PAM_CRED_INSUFFICIENT",
		says:    "Error 2358",
	},
	{
		title:   "bob's card is in the reader, and this service takes alice's password then",
		service: "password",
		card:    "bob",
		user:    "alice",
		answers: []string{password},
		code:    "PAM_SUCCESS",
	},
	{
		title:   "a thief copied her certificate onto a card with another key",
		service: "copied",
		user:    "alice",
		answers: []string{pin},
		code:    "PAM_AUTH_ERR",
		says:    "Error 2342",
		pins:    1,
	},
	{
		title:   "there is no card",
		service: "none",
		user:    "alice",
		code:    "PAM_AUTHINFO_UNAVAIL",
		says:    "Error 2308",
	},
}

// tell sets the stage, plays every act and takes the stage down.
func tell(build string, trace bool, out io.Writer) (err error) {
	s, err := newStage(build)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	defer s.CloseOnSignal()()
	fmt.Fprint(out, "A certificate authority, PIV cards it issued, and the way to them: libpam, the module that was just built,\n"+
		"its worker, our PC/SC daemon and CCID driver, and a simulated USB reader.\n"+
		"(This machine need not have an account called alice: the demo's configuration says allow_unknown_user.)\n")
	var problems []error
	for _, a := range acts {
		if err := s.perform(a, trace, out); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", a.title, err))
		}
	}
	return errors.Join(problems...)
}

// rehearsals is how often an act may be asked for a PIN too early.
const rehearsals = 10

// errEarly is a question that the story does not know. Where a machine takes long to judge a
// certificate, the module asks for the PIN meanwhile, which it then does not send: that is right
// too, and not the story.
var errEarly = errors.New("a question that the story does not know")

// perform plays an act, once more where the machine was too slow for the story.
func (s *stage) perform(a act, trace bool, out io.Writer) error {
	for i := 1; ; i++ {
		var shown bytes.Buffer
		err := s.play(a, trace, &shown)
		if errors.Is(err, errEarly) && i < rehearsals {
			continue
		}
		if _, failed := shown.WriteTo(out); failed != nil {
			return failed
		}
		return err
	}
}

// play shows one act and compares its end with the story's.
func (s *stage) play(a act, trace bool, out io.Writer) error {
	if a.card == "" {
		a.card = a.service
	}
	r := s.readers[a.card]
	before, err := r.count(a)
	if err != nil {
		return err
	}
	logged := len(r.Log())
	fmt.Fprintf(out, "\n* %s\n", a.title)

	w := way{reader: r}
	end, err := libpam.Authenticate(s.ServiceDir(), a.service, a.user, s.converse(a, r, &w, logged, out))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "    -> %s", end.Code)
	if end.Code == "PAM_SUCCESS" && end.User != "" {
		fmt.Fprintf(out, ", PAM_USER is %s", end.User)
	}
	fmt.Fprintln(out)

	w.events, w.log = r.control.Seen(), r.Log()[logged:]
	if trace {
		showTrace(out, w.events)
	}
	if a.pulled {
		if err := r.control.Do("insert"); err != nil {
			return err
		}
	}
	after, err := r.count(a)
	if err != nil {
		return err
	}
	if a.way {
		w.end = end
		if err := w.show(out, after); err != nil {
			return err
		}
	}
	return a.check(end, after.verifies-before.verifies)
}

// check compares the end of an act with the story's.
func (a act) check(end libpam.End, pins int) error {
	switch {
	case len(end.Asked) != len(a.answers):
		return fmt.Errorf("%w: %d were asked, not %d: %q", errEarly, len(end.Asked), len(a.answers), end.Asked)
	case end.Code != a.code:
		return fmt.Errorf("libpam answered %s, not %s", end.Code, a.code)
	case end.Code == "PAM_SUCCESS" && end.User != "alice":
		return fmt.Errorf("PAM_USER is %q, not alice", end.User)
	case !strings.Contains(end.Said, a.says):
		return fmt.Errorf("nothing was said of %q", a.says)
	case pins != a.pins:
		return fmt.Errorf("the card got %d PINs, not %d", pins, a.pins)
	}
	return nil
}

// converse shows the conversation on out, and types the answers of an act. logged is how much the
// daemon has logged before it.
func (s *stage) converse(a act, r *reader, w *way, logged int, out io.Writer) libpam.Conversation {
	answers := a.answers
	return func(style libpam.Style, text string) (string, error) {
		if style != libpam.Secret {
			fmt.Fprintf(out, "    %s\n", text)
			return "", nil
		}
		if len(answers) == 0 {
			return "", errEarly
		}
		answer := answers[0]
		answers = answers[1:]
		fmt.Fprintf(out, "    %s%s\n", text, libpam.Hidden(answer))
		if a.way {
			if err := w.lookAtWorker(r.Log()[logged:]); err != nil {
				return "", err
			}
		}
		if a.pulled {
			return answer, r.control.Do("remove")
		}
		return answer, nil
	}
}

// counters are what a card has counted.
type counters struct{ verifies, pin int }

func (r *reader) count(a act) (counters, error) {
	if a.service == "none" {
		return counters{}, nil
	}
	var c counters
	var err error
	c.verifies, c.pin, _, err = r.control.Count()
	return c, err
}

// longestShown is how many bytes of a command or an answer are shown.
const longestShown = 40

// showTrace shows the commands and answers at the card.
func showTrace(out io.Writer, events []scene.Event) {
	for _, e := range events {
		sign := "    >"
		if e.After {
			sign = "    <"
		}
		if len(e.Bytes) > longestShown {
			fmt.Fprintf(out, "%s % X ... %d bytes\n", sign, e.Bytes[:longestShown], len(e.Bytes))
			continue
		}
		fmt.Fprintf(out, "%s % X\n", sign, e.Bytes)
	}
}
