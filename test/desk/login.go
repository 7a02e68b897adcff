package desk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/token"
)

// Login is one login with a card.
type Login struct {
	User   string
	PIN    string // "" is the right one
	Reader string // its name, of the only reader in which the card may be; "" is any

	Cached bool              // certificates are remembered from login to login
	Asked  func()            // called when the PIN is asked for, before the answer; nil is nothing
	Trace  func(call string) // told of each call to the card before it begins; nil is nothing
}

// LogIn logs somebody in. The error is the refusal, with what was said and logged.
func (d *Desk) LogIn(ctx context.Context, l Login) error {
	file, err := d.config(l.Reader)
	if err != nil {
		return err
	}
	var log buffer
	a := &login.Authenticator{
		Cards:           &service{desk: d, cached: l.Cached},
		SessionIsRemote: func(context.Context, int) (bool, error) { return false, nil },
		Logger:          slog.New(slog.NewTextHandler(&log, nil)),
		Trace:           l.Trace,
	}
	user := &person{pin: l.PIN, asked: l.Asked}
	if user.pin == "" {
		user.pin = PIN
	}
	defer user.wipe()

	result, err := a.Authenticate(ctx, login.Request{
		Service: "desk", User: l.User, Args: []string{"config_file=" + file},
	}, user)
	switch {
	case err != nil:
		return fmt.Errorf("%w; shown %q, logged\n%s", err, user.shown, log.String())
	case result.User != l.User:
		return fmt.Errorf("let in as %q", result.User)
	case user.prompts == 0:
		return errors.New("let in without a PIN")
	}
	return nil
}

// config writes the configuration for a reader, once.
func (d *Desk) config(reader string) (string, error) {
	file := filepath.Join(d.Dir, "conf-"+reader)
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	choice := ""
	if reader != "" {
		choice = fmt.Sprintf("slot_description = %q;", reader)
	}
	text := fmt.Sprintf(`pam_pkcs11 {
  use_pkcs11_module = builtin;
  use_mappers = cn;
  allow_unknown_user = true;
  card_only = true;
  pkcs11_module builtin {
    pcsc_socket = %s;
    ca_dir = %s;
    cert_policy = ca, signature;
    %s
  }
}
`, d.Socket, filepath.Join(d.Dir, "cacerts"), choice)

	// Logins at the same time write the same, and none may read half of it.
	fresh, err := os.CreateTemp(d.Dir, "fresh-")
	if err != nil {
		return "", err
	}
	_, err = fresh.WriteString(text)
	if err := errors.Join(err, fresh.Close(), os.Rename(fresh.Name(), file)); err != nil {
		return "", err
	}
	return file, nil
}

// service opens the built-in card over the desk's socket. It implements login.Cards.
type service struct {
	desk   *Desk
	cached bool
}

func (s *service) Prepare(*config.Config) error { return nil }

func (s *service) Open(_ *config.Config, o token.Options) (token.Module, error) {
	options := piv.Options{Options: o}
	if s.cached {
		c, err := cache.Open(filepath.Join(s.desk.Dir, "cache"), cache.Options{})
		if err != nil {
			return nil, err
		}
		options.Cache = c
	}
	return piv.New(pcsc.NewClient(s.desk.Socket), options)
}

// person answers the prompts of one login. It implements login.Conversation.
type person struct {
	pin   string
	asked func()

	mu      sync.Mutex
	prompts int
	shown   []string
	given   []*secret.PIN
}

func (p *person) show(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = append(p.shown, text)
}

func (p *person) Prompt(_ context.Context, text string) (*secret.PIN, error) {
	p.show(text)
	if p.asked != nil {
		p.asked()
	}
	pin, err := secret.New([]byte(p.pin))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.prompts++
	p.given = append(p.given, pin)
	return pin, nil
}

func (p *person) Ask(_ context.Context, text string) (string, error) {
	p.show(text)
	return "", login.ErrConversation
}

func (p *person) TakeOver(context.Context, login.Item) (*secret.PIN, error) { return nil, nil }

func (p *person) Info(_ context.Context, text string) error {
	p.show(text)
	return nil
}

func (p *person) Error(_ context.Context, text string) error {
	p.show(text)
	return nil
}

func (p *person) Wait(_ context.Context, d time.Duration) error { return nil }

func (p *person) wipe() {
	for _, pin := range p.given {
		pin.Wipe()
	}
}
