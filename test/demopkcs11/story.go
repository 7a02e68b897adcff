package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/test/libpam"
	"pam_pkcs11/test/scene"
)

const pin = "271828"

// act is one login attempt of the story.
type act struct {
	title  string
	card   string // the card in the reader, "" is none
	user   string // the name given, "" asks whose card it is
	answer string // what is typed at the PIN prompt
	code   string // how libpam must answer
	says   string // what the user must be told, "" for nothing in particular
	asks   bool   // whether a PIN may be asked for
}

var acts = []act{
	{"alice logs in", "alice", "alice", pin, "PAM_SUCCESS", "Welcome alice", true},
	{"nobody gives a name: the card knows whose it is", "alice", "", pin, "PAM_SUCCESS", "Welcome alice", true},
	{"alice mistypes her PIN", "alice", "alice", "271829", "PAM_AUTH_ERR", "Error 2320", true},
	{"alice presses Return at once", "alice", "alice", "", "PAM_AUTH_ERR", "Error 2318", true},
	{"her certificate expired yesterday", "expired", "alice", pin, "PAM_CRED_INSUFFICIENT", "Error 2324", false},
	{"her certificate is from a CA that nobody here trusts", "stranger", "alice", pin, "PAM_CRED_INSUFFICIENT", "Error 2354", false},
	{"bob's card is in the reader", "bob", "alice", pin, "PAM_CRED_INSUFFICIENT", "Error 2358", false},
	{"a thief copied her certificate onto a card with another key", "copied", "alice", pin, "PAM_AUTH_ERR", "Error 2342", true},
	{"there is no card", "", "alice", pin, "PAM_AUTHINFO_UNAVAIL", "Error 2308", false},
}

// tell sets the stage, plays every act and takes the stage down.
func tell(build string, out io.Writer) (err error) {
	s, err := scene.New(build)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	defer s.CloseOnSignal()()
	if err := setStage(s); err != nil {
		return err
	}
	fmt.Fprint(out, "A certificate authority, smart cards it issued, and libpam with the module that was just built.\n"+
		"(This machine need not have an account called alice: the demo's configuration says allow_unknown_user.)\n")
	var problems []error
	for _, a := range acts {
		if err := play(s, a, out); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// setStage makes the cards, and for each of them a configuration and a PAM service of its name.
func setStage(s *scene.Scene) error {
	alice := s.CA.Leaf("alice", testca.WithKey(testca.RSA(2048, "alice")))
	expired := s.CA.Leaf("alice", testca.Expired())
	stranger := testca.NewRoot("Unknown CA").Leaf("alice")
	bob := s.CA.Leaf("bob")
	cards := []struct {
		name, label string
		cert        *testca.Cert
		key         *testca.Key
	}{
		{"alice", "alice", alice, alice.Key},
		{"expired", "alice", expired, expired.Key},
		{"stranger", "alice", stranger, stranger.Key},
		{"bob", "bob", bob, bob.Key},
		{"copied", "alice", alice, testca.RSA(2048, "thief")},
	}
	for _, c := range cards {
		card, err := s.NewCard(c.name, c.label, pin, c.cert, c.key)
		if err != nil {
			return fmt.Errorf("making the card %s: %w", c.name, err)
		}
		if err := service(s, c.name, card); err != nil {
			return err
		}
	}
	return service(s, "nocard", nil)
}

func service(s *scene.Scene, name string, card *scene.Card) error {
	conf, err := s.Config(name, card, []string{"card_only = true;", "use_mappers = cn;", "allow_unknown_user = true;"}, nil)
	if err != nil {
		return err
	}
	return s.Service(name, "required MODULE config_file="+conf)
}

// play shows one act and compares its end with the story's.
func play(s *scene.Scene, a act, out io.Writer) error {
	service := a.card
	if service == "" {
		service = "nocard"
	}
	fmt.Fprintf(out, "\n* %s\n", a.title)
	end, err := libpam.Authenticate(s.ServiceDir(), service, a.user, show(out, a.answer))
	if err != nil {
		return fmt.Errorf("%s: %w", a.title, err)
	}
	fmt.Fprintf(out, "    -> %s", end.Code)
	if end.Code == "PAM_SUCCESS" {
		fmt.Fprintf(out, ", PAM_USER is %s", end.User)
	}
	fmt.Fprintln(out)
	switch {
	case end.Code != a.code:
		return fmt.Errorf("%s: libpam answered %s, not %s", a.title, end.Code, a.code)
	case end.Code == "PAM_SUCCESS" && end.User != "alice":
		return fmt.Errorf("%s: PAM_USER is %q, not alice", a.title, end.User)
	case !strings.Contains(end.Said, a.says):
		return fmt.Errorf("%s: nothing was said of %q", a.title, a.says)
	case !a.asks && len(end.Asked) > 0:
		return fmt.Errorf("%s: a PIN was asked for that could not have helped", a.title)
	}
	return nil
}

// show shows the conversation on out and types answer at each question.
func show(out io.Writer, answer string) libpam.Conversation {
	return func(style libpam.Style, text string) (string, error) {
		switch style {
		case libpam.Secret:
			fmt.Fprintf(out, "    %s%s\n", text, libpam.Hidden(answer))
			return answer, nil
		case libpam.Visible:
			return "", fmt.Errorf("a question that the story does not know: %s", text)
		}
		fmt.Fprintf(out, "    %s\n", text)
		return "", nil
	}
}
