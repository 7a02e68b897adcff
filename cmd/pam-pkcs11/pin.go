package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
	"pam_pkcs11/login/cards"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/token"
)

// pinTool is what the commands of `pam-pkcs11 pin` share.
type pinTool struct {
	config string
	slot   int    // --slot, from 1; 0 is any
	reader string // --reader, the beginning of its name; "" is any
	token  string // --token, the card's label; "" is any

	ask  func(question string) (*secret.PIN, error)
	open func(*config.Config, token.Options) (token.Module, error)
}

func newPIN() *cobra.Command {
	return newPINFor(&pinTool{ask: askSecret, open: cards.System{Tool: true}.Open})
}

func newPINFor(p *pinTool) *cobra.Command {
	command := &cobra.Command{
		Use:   "pin",
		Short: "Show the state of a card's PIN, change it or unblock it",
		Args:  noArguments,
		RunE:  onlySubcommands,
	}
	flags := command.PersistentFlags()
	flags.StringVar(&p.config, "config", config.DefaultFile, "configuration file")
	flags.IntVar(&p.slot, "slot", 0, "only the card in this slot, counted from 1")
	flags.StringVar(&p.reader, "reader", "", "only the card in the reader whose name begins so")
	flags.StringVar(&p.token, "token", "", "only the card with this label")

	status := &cobra.Command{
		Use:   "status",
		Short: "Show the cards and what is known of their PINs, without a try",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.run(cmd, p.status) },
	}
	change := &cobra.Command{
		Use:   "change",
		Short: "Change the PIN of a card",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.run(cmd, p.onOne(p.change)) },
	}
	unblock := &cobra.Command{
		Use:   "unblock",
		Short: "Set a new PIN with the card's PUK",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.run(cmd, p.onOne(p.unblock)) },
	}
	for _, sub := range []*cobra.Command{status, change, unblock} {
		jsonFlag(sub)
		command.AddCommand(sub)
	}
	return command
}

// pinWork is one of the commands.
type pinWork struct {
	cmd    *cobra.Command
	out    *output
	conf   *config.Config
	module token.Module
	slots  []token.Slot // all of them
	chosen []token.Slot // those with a card that was asked for
}

// run opens the module, and does one of the commands with the cards that were asked for.
func (p *pinTool) run(cmd *cobra.Command, do func(context.Context, *pinWork) error) error {
	runtime.LockOSThread() // PKCS#11 libraries keep state by thread
	defer runtime.UnlockOSThread()

	if p.slot < 0 {
		return &cli.Error{Code: cli.Usage, Err: errors.New("--slot is counted from 1")}
	}
	conf, _, err := loadOrBuiltin(p.config)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	selectors, err := p.selectors(conf)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	module, err := p.open(conf, token.Options{Logger: warnings(cmd)})
	if err != nil {
		return noReaders(err, os.Geteuid(), cmd.CommandPath())
	}
	defer module.Close()

	ctx := cmd.Context()
	slots, err := module.Slots(ctx)
	if err != nil {
		return noReaders(err, os.Geteuid(), cmd.CommandPath())
	}
	w := &pinWork{cmd: cmd, out: outputOf(cmd), conf: conf, module: module, slots: slots, chosen: selectors.Select(slots)}
	if len(w.chosen) == 0 {
		return &cli.Error{Code: cli.Unavailable, Err: login.ExplainNoCard(conf, selectors, slots)}
	}
	return do(ctx, w)
}

// noReaders is why the readers cannot be used, and what a user can do about it whom their daemon does not let in, or for
// whom none is started.
func noReaders(err error, uid int, command string) error {
	if uid != 0 && (errors.Is(err, pcsc.ErrNoService) || errors.Is(err, pcsc.ErrSecurityViolation)) {
		return told(cli.Unavailable, message.Textf("%v; root may use them, run: sudo %s", err, command))
	}
	return &cli.Error{Code: cli.Unavailable, Err: err}
}

// selectors are those of the configuration, or the one of the flags where there are any.
func (p *pinTool) selectors(conf *config.Config) (token.Selectors, error) {
	s := token.Selector{SlotNum: p.slot, SlotDescription: p.reader, TokenLabel: p.token}
	if s != (token.Selector{}) {
		return slices.Repeat(token.Selectors{s}, len(conf.Modules)), nil
	}
	return login.CardSelection(conf)
}

// onOne is a command for one card.
func (p *pinTool) onOne(do func(context.Context, *pinWork, token.Session) error) func(context.Context, *pinWork) error {
	return func(ctx context.Context, w *pinWork) error {
		if len(w.chosen) > 1 {
			return told(cli.Failure, message.Textf("there are several cards: %s (name one with --token, --reader or --slot)", names(w.chosen)))
		}

		session, err := w.module.Open(ctx, w.chosen[0])
		if err != nil {
			return &cli.Error{Code: cli.Unavailable, Err: err}
		}
		err = do(ctx, w, session)
		if closed := session.Close(); err == nil && closed != nil {
			return fmt.Errorf("the card may not be locked again: %w", closed)
		}
		return err
	}
}

// names are the cards in these slots, each with its slot and reader.
func names(slots []token.Slot) string {
	var list []string
	for i := range slots {
		list = append(list, fmt.Sprintf("%q in %s", slots[i].Token.Label, placeOf(&slots[i]).In(userCatalogue())))
	}
	return strings.Join(list, ", ")
}

// placeOf names a slot, with its reader where that can be told.
func placeOf(s *token.Slot) message.Text {
	if s.Describe() != nil || s.Description == "" {
		return message.Textf("slot %d", s.Index)
	}
	return message.Textf("slot %d, %s", s.Index, s.Description)
}

// warn tells something about the work on standard error.
func (w *pinWork) warn(text message.Text) {
	fmt.Fprintf(w.cmd.ErrOrStderr(), "%s: %s\n", program, text.In(w.out.catalogue))
}

// told is a failure in the user's language, which is told to him on standard error.
func told(code int, text message.Text) error {
	return &cli.Error{Code: code, Err: errors.New(text.In(userCatalogue()))}
}
