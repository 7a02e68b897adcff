package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/setup"
	"pam_pkcs11/setup/revert"
)

// The exit codes of setup that other commands do not have.
const (
	exitChoice    = 3 // somebody has to choose, and nobody is asked
	exitRehearsal = 4 // a login of the rehearsal failed; nothing was changed
)

// settingUp is one call of `pam-pkcs11 setup`.
type settingUp struct {
	o     setup.Options
	mode  string
	yes   bool
	keep  bool
	pinFD int
}

// newSetup is the command `pam-pkcs11 setup`.
func newSetup() *cobra.Command {
	s := settingUp{}
	command := &cobra.Command{
		Use:   "setup",
		Short: "Bring smart-card login onto this machine",
		Long: "setup finds the card, pairs its key with an account or imports the authority that has issued it, writes the\n" +
			"configuration, and switches the card on for the services of this machine. Before anything is changed it carries\n" +
			"all of it out on copies, in a mount namespace of its own, logs the user in there by card and by password through\n" +
			"the real libpam, looks for ways to lock somebody out, and shows what would be changed. It never sends a wrong PIN.\n" +
			"What it has changed, " + program + " undo takes back byte for byte.\n\n" +
			"With --yes it asks nothing. It ends with 0 when all is set up (also when nothing had to be changed), with 1 when\n" +
			"a check stands against the change, with 3 when something has to be chosen, with 4 when a login of the rehearsal\n" +
			"failed, and with 78 when the configuration would refuse every login. But for 0, nothing has been changed.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}

	f := command.Flags()
	f.StringVar(&s.o.User, "user", "",
		"account that is to log in with the card (with sudo: who called it)")
	f.StringVar(&s.o.Library, "library", "", "PKCS#11 library, instead of the built-in card")
	f.StringVar(&s.mode, "mode", string(doctor.ModePassword),
		"who needs a card: password (nobody: card or password), group (its members), only (all but a group)")
	f.StringVar(&s.o.Group, "group", "",
		"group of the mode (smartcard, or breakglass with --mode only)")
	f.StringArrayVar(&s.o.CAs, "ca", nil,
		"file with the certificate of an authority that may name users (may be repeated)")
	f.StringVar(&s.o.StoreCA, "ca-sha256", "",
		"SHA-256 fingerprint of such an authority that this machine's store of authorities has")
	f.BoolVar(&s.o.PinKey, "pin-key", false,
		"pair the card's key with the account; no authority is needed")
	f.StringVar(&s.o.Mapper, "mapper", "", "mapper that says whose card it is")
	f.StringArrayVar(&s.o.Settings, "mapper-option", nil,
		"KEY=VALUE for the mapper's block (may be repeated)")
	f.StringArrayVar(&s.o.Services, "service", nil,
		"only for this service, by a line in its file (may be repeated); all: by the profile")
	f.StringVar(&s.o.Config, "config", "", "keep or replace a configuration that is there")
	f.StringArrayVar(&s.o.Force, "force", nil,
		"go on although this check, by its name or number, stands against it (may be repeated)")
	f.BoolVar(&s.o.NoTest, "no-test", false, "try no login")
	f.BoolVar(&s.o.NoCard, "no-card", false,
		"there is no card now: write the configuration and switch the profile on")
	f.BoolVar(&s.o.NoDesktop, "no-desktop", false, "leave GDM's service for smart cards as it is")
	f.BoolVar(&s.o.DryRun, "dry-run", false, "show what would be changed, and change nothing")
	f.BoolVar(&s.yes, "yes", false, "ask nothing")
	f.IntVar(&s.pinFD, "pin-fd", -1, "descriptor from which the PIN is read, to try the card")
	f.DurationVar(&s.o.RevertAfter, "revert-after", 0,
		"take all back after this time if nobody confirms it; 10s to 24h, 0: never (at a terminal 10m with --mode only)")
	f.BoolVar(&s.keep, "keep", false, "confirm the last setup, so that it is not taken back")

	jsonFlag(command)
	return command
}

// run checks the flags, sets the machine up, and shows what came of it.
func (s *settingUp) run(cmd *cobra.Command) error {
	o := outputOf(cmd)
	if s.keep {
		return keepSetup(cmd, o)
	}
	if err := s.check(cmd); err != nil {
		return &cli.Error{Code: cli.Usage, Err: err}
	}

	if os.Geteuid() != 0 {
		return &cli.Error{Code: cli.NoPerm, Err: errors.New("only root can do this")}
	}

	if s.pinFD >= 0 {
		pin, err := readPIN(s.pinFD)
		if err != nil {
			return &cli.Error{Code: cli.Usage, Err: fmt.Errorf("--pin-fd %d: %w", s.pinFD, err)}
		}
		defer pin.Wipe()
		s.o.PIN = pin
	}

	// A signal ends the questions and the rehearsal; once files are written, commit ignores it.
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if !s.yes {
		s.o.Person = personAt(ctx, cmd, o)
	}

	result, err := setup.Run(ctx, s.o)
	// What was found on the way is shown after a failure too.
	if shown := s.show(o, result, err); shown != nil {
		return shown
	}
	return exitOf(o, err)
}

// keepSetup confirms the last setup.
func keepSetup(cmd *cobra.Command, o *output) error {
	// Confirming goes with no choice of a setup: somebody may have meant to make a new one.
	extra := ""
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "keep" && f.Name != "json" {
			extra = f.Name
		}
	})
	switch {
	case extra != "":
		return &cli.Error{Code: cli.Usage, Err: fmt.Errorf("--keep goes with no --%s", extra)}
	case os.Geteuid() != 0:
		return &cli.Error{Code: cli.NoPerm, Err: errors.New("only root can do this")}
	}

	number, err := revert.Keep(cmd.Context())
	missing := errors.Is(err, revert.ErrNotPending)
	switch {
	case err != nil && !missing:
		return err
	case o.json:
		err = o.encode(struct {
			Kept   bool `json:"kept"`
			Number int  `json:"number,omitempty"`
		}{Kept: !missing, Number: number})
	case missing:
		err = o.say(
			"No setup waits for a confirmation: it was confirmed already, or has been taken back. See: %s undo --list", program)
	default:
		err = o.say("Setup %d stays.", number)
	}

	if err == nil && missing {
		err = &cli.Error{Code: cli.Failure}
	}
	return err
}

// check looks at the flags.
func (s *settingUp) check(cmd *cobra.Command) error {
	s.o.Argv = os.Args
	s.o.Mode = doctor.Mode(s.mode)
	modes := []doctor.Mode{doctor.ModePassword, doctor.ModeGroup, doctor.ModeOnly}
	const inGroup = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

	switch {
	case !slices.Contains(modes, s.o.Mode):
		return fmt.Errorf("--mode is password, group or only, not %q", s.mode)
	case !slices.Contains([]string{"", "keep", "replace"}, s.o.Config):
		return fmt.Errorf("--config is keep or replace, not %q", s.o.Config)
	case s.o.StoreCA != "" && !isFingerprint(s.o.StoreCA):
		return fmt.Errorf("--ca-sha256 is a SHA-256 fingerprint, 64 hexadecimal digits, not %q",
			s.o.StoreCA)
	case s.o.PinKey && s.namesOthers():
		return errors.New("--pin-key goes with no --ca and no other mapper")
	case s.o.Library != "" && !strings.HasPrefix(s.o.Library, "/"):
		return fmt.Errorf("--library is an absolute path, not %q", s.o.Library)
	case strings.Trim(s.o.Group, inGroup) != "":
		return fmt.Errorf("%q is no name of a group", s.o.Group)
	}

	if err := s.checkRevert(cmd); err != nil {
		return err
	}
	// It becomes the name of a file in /etc/pam.d.
	for _, service := range s.o.Services {
		hidden := strings.HasPrefix(service, ".")
		if service == "" || hidden || strings.ContainsAny(service, "/\x00") {
			return fmt.Errorf("%q is no name of a service", service)
		}
	}

	s.o.Services = slices.DeleteFunc(s.o.Services,
		func(service string) bool { return service == "all" })

	if sudoUser := os.Getenv("SUDO_USER"); s.o.User == "" && sudoUser != "root" {
		s.o.User = sudoUser
	}

	// Questions nobody can answer would wait for ever, as in a script.
	input, isFile := cmd.InOrStdin().(*os.File)
	if !s.yes && (!isFile || !term.IsTerminal(int(input.Fd()))) {
		return errors.New("there is no terminal to ask at: give the answers as flags, and --yes")
	}
	return nil
}

// namesOthers reports whether the flags let others than the paired key's owner in: by an authority,
// or by another mapper than enrolled.
func (s *settingUp) namesOthers() bool {
	otherMapper := s.o.Mapper != "" && s.o.Mapper != "enrolled"
	return len(s.o.CAs) > 0 || s.o.StoreCA != "" || otherMapper
}

// isFingerprint reports whether a text is a SHA-256 fingerprint, with colons between the octets or
// not.
func isFingerprint(text string) bool {
	sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	return err == nil && len(sum) == 32
}

// checkRevert looks at --revert-after. Where nobody gets in without a card any more, and somebody
// sits at the terminal who can confirm that he does, it is the default.
func (s *settingUp) checkRevert(cmd *cobra.Command) error {
	after := s.o.RevertAfter
	switch {
	case !cmd.Flags().Changed("revert-after"):
		if s.o.Mode == doctor.ModeOnly && !s.yes {
			s.o.RevertAfter = revert.Default
		}
	case after != 0 && (after < revert.Min || after > revert.Max):
		return fmt.Errorf("--revert-after is 0 or from %s to %s, not %s", revert.Min, revert.Max,
			after)
	}
	return nil
}

// readPIN reads a PIN, up to the end of its line, from a descriptor.
func readPIN(fd int) (*secret.PIN, error) {
	file := os.NewFile(uintptr(fd), "pin")
	if file == nil {
		return nil, errors.New("is no descriptor")
	}
	defer file.Close()

	// The longest PIN, its line's end, and one byte by which too long a one is noticed.
	data := make([]byte, secret.MaxPIN+2)
	defer secret.Wipe(data)

	have := 0
	for have < len(data) && bytes.IndexByte(data[:have], '\n') < 0 {
		n, err := file.Read(data[have:])
		have += n
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}

	pin := data[:have]
	if end := bytes.IndexByte(pin, '\n'); end >= 0 {
		pin = pin[:end]
	}
	if len(pin) == 0 {
		return nil, errors.New("there is no PIN")
	}
	return secret.New(pin)
}

// show prints the result.
func (s *settingUp) show(o *output, r *setup.Result, failed error) error {
	if o.json {
		return o.encode(r)
	}

	var all said
	// With somebody at the terminal the changes were shown before, when they were agreed to.
	if s.o.Person == nil && failed == nil {
		for _, file := range r.Files {
			all.add(o.say("Changes in %s:", file.Path))
			for _, line := range file.Diff {
				all.add(o.say("    %s", line))
			}
		}
	}

	all.add(o.findings(r.Findings))
	switch {
	case failed != nil:
	case r.Changed:
		all.add(o.say(
			"%s can log in with the card now. Try it in another terminal, and keep this one: sudo -k id", r.User))
		all.add(o.say("To go back: %s undo", program))
		if !r.RevertAt.IsZero() {
			all.add(o.say(
				"It is taken back by itself at %s, unless you confirm that you still get in: %s setup --keep",
				r.RevertAt.Local().Format(time.DateTime), program))
		}
	case len(r.Files) == 0:
		all.add(o.say("All was set up already."))
	default:
		all.add(o.say("Nothing has been changed (--dry-run)."))
	}
	return all.err
}

// exitOf is the exit code that a failure has.
func exitOf(o *output, err error) error {
	if err == nil {
		return nil
	}

	code := cli.Failure
	var (
		choice    *setup.ChoiceError
		rehearsal *setup.RehearsalError
		conf      *setup.ConfigError
	)
	switch {
	case errors.As(err, &choice):
		code = exitChoice
	case errors.As(err, &rehearsal):
		code = exitRehearsal
	case errors.As(err, &conf):
		code = cli.Config
	}

	if o.json {
		return &cli.Error{Code: code} // the JSON has it
	}

	if text := setup.Sentence(err); !text.Empty() {
		err = errors.New(text.In(o.catalogue))
	}
	return &cli.Error{Code: code, Err: err}
}

// person is who sits at the terminal.
type person struct {
	ctx context.Context // ends a question
	o   *output
	out io.Writer
	in  *bufio.Reader
}

// personAt is the one at a command's terminal. With --json the questions are on standard error.
func personAt(ctx context.Context, cmd *cobra.Command, o *output) *person {
	p := &person{
		ctx: ctx,
		o:   o,
		out: cmd.OutOrStdout(),
		in:  bufio.NewReader(cmd.InOrStdin()),
	}
	if o.json {
		p.out = cmd.ErrOrStderr()
	}
	return p
}

// Say tells a sentence.
func (p *person) Say(text message.Text) { fmt.Fprintln(p.out, text.In(p.o.catalogue)) }

// Show shows what would be changed.
func (p *person) Show(changes []setup.Change) {
	for _, c := range changes {
		p.Say(message.Textf("Changes in %s:", c.Path))
		for _, line := range c.Diff() {
			fmt.Fprintln(p.out, "    "+line)
		}
	}
}

// maxAnswers bounds how often a question is put again.
const maxAnswers = 5

// Choose puts a question with numbered answers.
func (p *person) Choose(question message.Text, answers []message.Text) (int, error) {
	p.Say(question)
	for i, a := range answers {
		fmt.Fprintf(p.out, "  %d) %s\n", i+1, a.In(p.o.catalogue))
	}
	// Somebody who cannot answer is not asked for ever: a script may be at the other end.
	for range maxAnswers {
		typed, err := p.Ask(message.Textf("Number: "))
		if err != nil {
			return 0, err
		}
		if n, err := strconv.Atoi(typed); err == nil && n >= 1 && n <= len(answers) {
			return n - 1, nil
		}
		p.Say(message.Textf("Please answer with a number from 1 to %d.", len(answers)))
	}
	return 0, errNotTyped
}

// Ask puts a question whose answer is a line. A signal ends it, and the setup.
func (p *person) Ask(question message.Text) (string, error) {
	if err := p.ctx.Err(); err != nil {
		return "", err
	}
	fmt.Fprint(p.out, question.In(p.o.catalogue))

	var line string
	var err error
	// The reading cannot be ended: a signal leaves it behind, in a goroutine of its own.
	read := make(chan struct{})
	go func() {
		defer close(read)
		line, err = p.in.ReadString('\n')
	}()
	select {
	case <-read:
	case <-p.ctx.Done():
		fmt.Fprintln(p.out)
		return "", p.ctx.Err()
	}

	line = strings.TrimSpace(line)
	if err != nil && line == "" {
		fmt.Fprintln(p.out)
		return "", errNotTyped
	}
	return line, nil
}

// Agree puts a question that is answered with yes or no.
func (p *person) Agree(question message.Text) (bool, error) {
	for range maxAnswers {
		typed, err := p.Ask(message.Textf("%s [yes/no] ", question))
		if err != nil {
			return false, err
		}
		switch strings.ToLower(typed) {
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
	}
	return false, errNotTyped
}

// Secret asks with echo off. Nothing typed is nil.
func (p *person) Secret(question message.Text) (*secret.PIN, error) {
	pin, err := askSecret(question.In(p.o.catalogue))
	if errors.Is(err, errNotTyped) {
		return nil, nil
	}
	return pin, err
}

var _ setup.Person = (*person)(nil)
