package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/logs"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
	"pam_pkcs11/login/cards"
	"pam_pkcs11/token"
)

// source is one certificate and where it comes from.
type source struct {
	name string
	cert *certinfo.Certificate // nil when err is set

	block int // of the configuration, which its card is of; a file's is the first

	err     error            // why it cannot be used
	outline certinfo.Outline // what can be read of it all the same
}

// unusable is a source that can only be shown.
func unusable(name string, der []byte, err error) source {
	return source{name: name, err: err, outline: certinfo.ReadOutline(der)}
}

// read takes one certificate out of DER. An error is returned when not even its outline can be
// read.
func read(
	name string, der []byte, parse func([]byte) (*certinfo.Certificate, error),
) (source, error) {
	cert, err := parse(der)
	if err == nil {
		return source{name: name, cert: cert}, nil
	}

	s := unusable(name, der, err)
	if s.outline.Empty() {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// usable leaves out, with a line on standard error, the certificates that can only be shown.
func usable(cmd *cobra.Command, all []source) []source {
	return slices.DeleteFunc(all, func(s source) bool {
		if s.err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s: certificate %q left out: %v\n", program, s.name,
				s.outline.Subject, s.err)
		}
		return s.err != nil
	})
}

// checkers judge certificates as a login with a card of their block does.
type checkers struct {
	authenticator *login.Authenticator
	conf          *config.Config
	made          map[int]*login.Checker // by block
}

// newCheckers makes the checker of the first block. Those of others are made when there is a card
// of theirs.
func newCheckers(cmd *cobra.Command, conf *config.Config) (*checkers, error) {
	k := &checkers{
		// Without a card no mapper may ask for one.
		authenticator: &login.Authenticator{Accounts: accounts.System(), Logger: warnings(cmd)},
		conf:          conf,
		made:          map[int]*login.Checker{},
	}
	_, err := k.of(source{})
	return k, err
}

// of returns the checker for a certificate.
func (k *checkers) of(s source) (*login.Checker, error) {
	if known := k.made[s.block]; known != nil {
		return known, nil
	}

	checker, err := k.authenticator.NewChecker(k.conf.Block(s.block))
	if err == nil {
		k.made[s.block] = checker
	}
	return checker, err
}

// maxCertificateFile bounds a file of certificates, in bytes.
const maxCertificateFile = 4 << 20

// warnings shows on standard error what a login would log as a warning.
func warnings(cmd *cobra.Command) *slog.Logger {
	return slog.New(logs.Stderr(cmd.ErrOrStderr(), slog.LevelWarn))
}

// gather reads the certificates of the files, or those of the card when no file is named.
func gather(cmd *cobra.Command, conf *config.Config, files []string) ([]source, error) {
	if len(files) == 0 {
		return fromCard(cmd, conf)
	}

	var all []source
	for _, file := range files {
		some, err := fromFile(file)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// readLimited reads a file of at most limit bytes.
func readLimited(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	// One byte more than allowed tells too long a file from one of just that size.
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes", file, limit)
	}
	return data, err
}

// fromFile reads all certificates of a file in PEM, or the one of a file in DER.
func fromFile(file string) ([]source, error) {
	data, err := readLimited(file, maxCertificateFile)
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		one, err := read(file, data, certinfo.ParsePadded) // as a card's file may be
		return []source{one}, err
	}

	var all []source
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		// A file of PEM may hold keys and other things beside the certificates.
		if block.Type != "CERTIFICATE" && block.Type != "X509 CERTIFICATE" {
			continue
		}

		one, err := read(file, block.Bytes, certinfo.Parse)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}

	if len(all) == 0 {
		return nil, fmt.Errorf("%s: %w", file, errNoCertificate)
	}
	return all, nil
}

// The failures of reading a card that the old tools tell apart by their exit codes.
var (
	errPIN  = errors.New("the PIN was not accepted")
	errList = errors.New("the certificates could not be read")
)

// fromCard reads the certificates of the cards that a login would use. A PIN is asked for only when
// a card hides its certificates without it.
func fromCard(cmd *cobra.Command, conf *config.Config) ([]source, error) {
	ctx := cmd.Context()
	module, err := cards.System{Tool: true}.Open(conf, token.Options{Logger: warnings(cmd)})
	if err != nil {
		return nil, err
	}
	defer module.Close()

	slots, err := module.Slots(ctx)
	if err != nil {
		return nil, err
	}

	selector, err := login.CardSelection(conf)
	if err != nil {
		return nil, err
	}
	chosen := selector.Select(slots)
	if len(chosen) == 0 {
		return nil, login.ExplainNoCard(conf, selector, slots)
	}

	var all []source
	for _, slot := range chosen {
		some, err := fromToken(ctx, cmd, module, slot)
		if err != nil {
			return nil, fmt.Errorf("card %s: %w", slot.Token.Label, err)
		}
		// Certificates of a card are checked by the rules of the block that its slot belongs to.
		for _, one := range some {
			one.block = slot.Block
			all = append(all, one)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: the card holds none", errList)
	}
	return all, nil
}

// fromToken reads the certificates of one card.
func fromToken(
	ctx context.Context, cmd *cobra.Command, module token.Module, slot token.Slot,
) ([]source, error) {
	session, err := module.Open(ctx, slot)
	if err != nil {
		return nil, err
	}
	defer session.Close()

	objects, err := list(session.Certificates(ctx))
	if err != nil {
		return nil, err
	}
	// Only an empty card is asked with its PIN: no try is spent where something can be seen.
	if len(objects) == 0 && slot.Token.PIN.Required {
		if objects, err = listHidden(ctx, cmd, session); err != nil {
			return nil, err
		}
	}

	var all []source
	for _, o := range objects {
		// Such an object can still be shown, by what can be read of it.
		if o.Err != nil {
			all = append(all, unusable(slot.Token.Label, o.Value,
				fmt.Errorf("certificate object %q: %w", o.Label, o.Err)))
			continue
		}
		all = append(all, source{name: slot.Token.Label, cert: o.Cert})
	}
	return all, nil
}

// list reads all that a card shows.
func list(shown iter.Seq2[token.Object, error]) ([]token.Object, error) {
	var objects []token.Object
	for o, err := range shown {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errList, err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// listHidden reads what a card shows only after its PIN.
func listHidden(
	ctx context.Context, cmd *cobra.Command, session token.Session,
) ([]token.Object, error) {
	pin, err := askPIN(cmd, session.Info())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPIN, err)
	}
	defer pin.Wipe()

	var objects []token.Object
	unlocked := false
	_, err = session.LogInAndSign(ctx, pin,
		func(shown iter.Seq2[token.Object, error]) (token.Choice, error) {
			unlocked = true
			var err error
			objects, err = list(shown)
			return token.Choice{}, err // nothing is to be signed
		})
	// Before the card was unlocked any error is one of the PIN; the old tools have their own code
	// for it.
	if err != nil && !unlocked {
		return nil, fmt.Errorf("%w: %w", errPIN, err)
	}
	return objects, err
}

// askPIN asks for the PIN on the terminal. It returns nil where it is typed at the reader.
func askPIN(cmd *cobra.Command, card *token.Info) (*secret.PIN, error) {
	say := func(text string) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: card %s: %s\n", program,
			card.Label, text)
	}

	switch card.PIN.Tries.Level {
	case token.Locked:
		return nil, errors.New("the PIN is locked")
	case token.Last:
		say("one more wrong PIN locks it")
	case token.Few:
		say("only a few tries are left before the PIN is locked")
	}
	if card.PIN.AtReader {
		say("type the PIN on the reader's keypad")
		return nil, nil
	}

	pin, err := askSecret(fmt.Sprintf("PIN of %s: ", card.Label))
	switch {
	case errors.Is(err, errNoTerminal):
		return nil, fmt.Errorf("the certificates are hidden without the PIN, and %w", err)
	case errors.Is(err, errNotTyped):
		return nil, errors.New("no PIN was typed")
	}
	return pin, err
}

// exit turns a failure into the exit code that an old tool had for it.
func exit(err error, pin, list, other int) error {
	if err == nil {
		return nil
	}
	code := other
	switch {
	case errors.Is(err, errPIN):
		code = pin
	case errors.Is(err, errList):
		code = list
	}
	return &cli.Error{Code: code, Err: err}
}
