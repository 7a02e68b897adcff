//go:build cgo

package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/login"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/piv"
	"pam_pkcs11/piv/cache"
	"pam_pkcs11/test/libpam"
	"pam_pkcs11/token"
)

// end is how a login has ended, on either way.
type end struct {
	granted bool
	code    string   // of libpam, or the outcome's
	user    string   // who is in
	said    string   // all messages
	asked   []string // all questions
	typed   int      // how many PINs
	log     string   // of the direct way
}

func (e end) String() string {
	return fmt.Sprintf("%s, user %q, said %q, asked %q\n%s", e.code, e.user, e.said, e.asked, e.log)
}

// way is how a login reaches the rig.
type way struct {
	name  string
	login func(r *testRig, p *person) end
}

var (
	throughLibpam = way{"libpam", (*testRig).loginThroughLibpam}
	direct        = way{"direct", (*testRig).loginDirectly}
)

// ways are those that a short test goes through, both.
var ways = []way{direct, throughLibpam}

// person is who logs in, as alice.
type person struct {
	pins   []string          // what is typed at the prompts
	asked  func(text string) // called at each prompt, before the answer; may be nil
	told   func(text string) // called at each message; may be nil
	user   string            // the name given; "" asks whose card it is, alice where none is set
	noUser bool
}

// typist is a person who only types.
func typist(pins ...string) *person { return &person{pins: pins} }

func (p *person) name() string {
	if p.noUser {
		return ""
	}
	if p.user == "" {
		return "alice"
	}
	return p.user
}

var errNothingToType = errors.New("there is a question that the test does not know")

// loginThroughLibpam is the whole way.
func (r *testRig) loginThroughLibpam(p *person) (e end) {
	r.t.Helper()
	pins := p.pins
	services := theStage(r.t).ServiceDir()
	got, err := libpam.Authenticate(services, r.name, p.name(), func(style libpam.Style, text string) (string, error) {
		if style == libpam.Info || style == libpam.Error {
			if p.told != nil {
				p.told(text)
			}
			return "", nil
		}
		if p.asked != nil {
			p.asked(text)
		}
		if len(pins) == 0 {
			return "", errNothingToType
		}
		answer := pins[0]
		pins = pins[1:]
		e.typed++
		return answer, nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	e.granted, e.code, e.said, e.asked = got.Code == "PAM_SUCCESS", got.Code, got.Said, got.Asked
	if e.granted {
		e.user = got.User
	}
	return e
}

// loginDirectly goes from login.Authenticator on, in this process.
func (r *testRig) loginDirectly(p *person) end {
	r.t.Helper()
	var log bytes.Buffer
	a := &login.Authenticator{
		Cards:           pivCards{r.Socket, r.cache},
		SessionIsRemote: func(context.Context, int) (bool, error) { return false, nil },
		Logger:          slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := &conversation{person: p, pins: p.pins}
	result, err := a.Authenticate(ctx, login.Request{
		Service: r.name,
		User:    p.name(),
		Args:    []string{"config_file=" + r.conf},
	}, c)
	e := end{
		granted: err == nil,
		code:    "success",
		said:    c.said.String(),
		asked:   c.asked,
		typed:   c.typed,
		log:     log.String(),
	}
	if refusal := (*login.Refusal)(nil); errors.As(err, &refusal) {
		e.code = refusal.Outcome.String()
	}
	if result != nil {
		e.user = result.User
	}
	return e
}

// pivCards is the built-in card at a socket.
type pivCards struct {
	socket string
	cache  *cache.Cache // may be nil
}

func (pivCards) Prepare(*config.Config) error { return nil }

func (c pivCards) Open(_ *config.Config, o token.Options) (token.Module, error) {
	return piv.New(pcsc.NewClient(c.socket), piv.Options{Options: o, Cache: c.cache})
}

// conversation is a person's, on the direct way.
type conversation struct {
	person *person
	pins   []string
	said   strings.Builder
	asked  []string
	typed  int
}

func (c *conversation) Prompt(_ context.Context, text string) (*secret.PIN, error) {
	c.asked = append(c.asked, text)
	if c.person.asked != nil {
		c.person.asked(text)
	}
	if len(c.pins) == 0 {
		return nil, errNothingToType
	}
	answer := c.pins[0]
	c.pins = c.pins[1:]
	c.typed++
	return secret.New([]byte(answer))
}

func (c *conversation) Ask(context.Context, string) (string, error) { return "", errNothingToType }

func (c *conversation) TakeOver(context.Context, login.Item) (*secret.PIN, error) { return nil, nil }

func (c *conversation) Info(_ context.Context, text string) error {
	fmt.Fprintln(&c.said, text)
	if c.person.told != nil {
		c.person.told(text)
	}
	return nil
}

func (c *conversation) Error(ctx context.Context, text string) error { return c.Info(ctx, text) }

func (c *conversation) Wait(context.Context, time.Duration) error { return nil }

// granted wants a login that went well.
func granted(t *testing.T, e end) {
	t.Helper()
	if !e.granted || e.user != "alice" {
		t.Errorf("the login did not go well: %v", e)
	}
}

// refused wants a login that did not, and that this was said to the user.
func refused(t *testing.T, e end, said string) {
	t.Helper()
	if e.granted || !strings.Contains(e.said, said) {
		t.Errorf("a refusal with %q was wanted: %v", said, e)
	}
}

// counters wants the card to have seen so many PINs, and to have so many tries left.
func (r *testRig) counters(verifies, tries int) {
	r.t.Helper()
	left, _ := r.card.Tries()
	if n := r.card.Verifies(); n != verifies || left != tries {
		r.t.Errorf("the card has got %d PINs and has %d tries left, not %d and %d", n, left, verifies, tries)
	}
}
