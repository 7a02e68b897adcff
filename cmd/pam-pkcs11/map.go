package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/login"
	"pam_pkcs11/mapper"
)

// mapping is one question of `pam-pkcs11 map`.
type mapping struct {
	user   string
	config string
	json   bool
}

// newMap is the command `pam-pkcs11 map`.
func newMap() *cobra.Command {
	m := mapping{}
	command := &cobra.Command{
		Use:   "map [CERT...]",
		Short: "Show whose certificate it is, and what each mapper says",
		Long: "map reads certificates from files, PEM or DER, or from the card in the reader when none is named.\n" +
			"For each it prints what the checks of a login say, and for each mapper what it read from the certificate,\n" +
			"whom it asked, what came back and what it says. It ends with 0 when every certificate is good and somebody's\n" +
			"(with --user: that user's), with 1 when not, and with 78 when the configuration has errors.",
		RunE: func(cmd *cobra.Command, args []string) error { return m.run(cmd, args) },
	}

	command.Flags().StringVar(&m.user, "user", "", "ask whether it is this user's")
	command.Flags().StringVar(&m.config, "config", config.DefaultFile, "configuration file")
	command.Flags().BoolVar(&m.json, "json", false, "print one JSON object for each certificate")
	return command
}

// mapped is what is known of one certificate. Its JSON is an interface.
type mapped struct {
	Certificate string          `json:"certificate"` // file, or the token's label
	Subject     string          `json:"subject"`
	Issuer      string          `json:"issuer"`
	Serial      string          `json:"serial"`
	Good        bool            `json:"good"`
	Check       string          `json:"check"` // why it is not good
	Notes       []string        `json:"notes"` // what is odd about it
	User        string          `json:"user"`  // whose it is; "" when no mapper knows
	Mapper      string          `json:"mapper"`
	Mappers     []mapperDetails `json:"mappers"`
	// all that may log in with it, User first; nil for one
	Accounts []string `json:"accounts,omitempty"`
}

// mapperDetails is what one mapper made of a certificate.
type mapperDetails struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Read    []string `json:"read"`
	Asked   []string `json:"asked"`
	Answer  []string `json:"answer"`
	User    string   `json:"user"`
	Verdict string   `json:"verdict"`
	// further accounts that a login without a name lets the user choose
	Others []string `json:"others,omitempty"`
	// further accounts that log in only when asked for by name
	ByName []string `json:"by_name,omitempty"`
	// line of the mapfile that comes nearest, where none fits
	Near *nearLine `json:"near,omitempty"`
}

// nearLine is the line of a mapfile that comes nearest to a certificate.
type nearLine struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Key  string `json:"key"`
	Text string `json:"text"` // of the certificate
	Why  string `json:"why"`  // it does not fit
}

// run asks about each certificate, and ends with 1 unless all are good and somebody's.
func (m mapping) run(cmd *cobra.Command, args []string) error {
	conf, err := config.Load(&config.Arguments{ConfigFile: m.config})
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	for _, n := range conf.Notes {
		if n.Loud() {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", program, n) // as a login logs it
		}
	}

	checkers, err := newCheckers(cmd, conf)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}

	certs, err := gather(cmd, conf, args)
	if err != nil {
		return err
	}

	yes := len(certs) > 0
	for _, c := range certs {
		checker, err := checkers.of(c)
		if err != nil {
			return &cli.Error{Code: cli.Config, Err: err}
		}
		shown, err := m.check(cmd.Context(), checker, conf, c, certs)
		if err != nil {
			return err
		}
		if err := m.print(cmd.OutOrStdout(), shown); err != nil {
			return err
		}
		yes = yes && shown.Good && shown.User != ""
	}

	if !yes {
		return &cli.Error{Code: cli.Failure}
	}
	return nil
}

// check asks about one certificate, within the time that a login would have.
func (m mapping) check(
	ctx context.Context, checker *login.Checker, conf *config.Config, c source, all []source,
) (mapped, error) {
	if c.err != nil {
		return mapped{
			Certificate: c.name,
			Subject:     c.outline.Subject,
			Issuer:      c.outline.Issuer,
			Serial:      c.outline.Serial,
			Check:       "cannot be used: " + c.err.Error(),
		}, nil
	}

	ctx, cancel := context.WithTimeout(ctx, conf.Global.VerifyTimeout)
	defer cancel()
	shown := mapped{
		Certificate: c.name,
		Subject:     c.cert.Subject.RFC4514(),
		Issuer:      c.cert.Issuer.RFC4514(),
		Serial:      c.cert.SerialHex(":"),
		Good:        true,
		Notes:       c.cert.Oddities(),
	}

	checked, err := checker.Check(ctx, c.cert, certificatesOf(all))
	if err != nil {
		shown.Good = false
		shown.Check = err.Error()
	}
	// The mappers are asked about a refused certificate too: whose it would be is half of the
	// answer.
	explained, err := checker.Explain(ctx, login.Checked(c.cert, checked), m.user)
	if err != nil {
		return shown, fmt.Errorf("%s: %w", c.name, err)
	}

	for _, e := range explained {
		shown.Mappers = append(shown.Mappers, details(ctx, e))
		// As at a login, the first mapper that names somebody decides.
		if shown.User == "" && e.User != "" {
			shown.User, shown.Mapper = e.User, e.Mapper
		}
		for _, account := range accountsOf(e) {
			if !slices.Contains(shown.Accounts, account) {
				shown.Accounts = append(shown.Accounts, account)
			}
		}
	}

	// One account is User already.
	if len(shown.Accounts) == 1 {
		shown.Accounts = nil
	}
	return shown, nil
}

// accountsOf returns all accounts that may log in by a mapper's word.
func accountsOf(e mapper.Explanation) []string {
	all := slices.Concat(e.Others, e.ByName)
	if e.User != "" {
		all = slices.Insert(all, 0, e.User)
	}
	return all
}

// details has empty lists, not null, for what there is nothing of.
func details(ctx context.Context, e mapper.Explanation) mapperDetails {
	list := func(l []string) []string { return append([]string{}, l...) }
	d := mapperDetails{
		Name:    e.Mapper,
		Type:    e.Type,
		Read:    list(e.Read),
		Asked:   list(e.Asked),
		Answer:  list(e.Heard),
		User:    e.User,
		Verdict: e.Verdict,
		Others:  e.Others,
		ByName:  e.ByName,
	}

	if near := e.Nearest(ctx); near != nil {
		d.Near = &nearLine{
			File: near.File,
			Line: near.Line,
			Key:  near.Key,
			Text: near.Text,
			Why:  near.Why,
		}
	}
	return d
}

// print writes one certificate, for people or as one line of JSON.
func (m mapping) print(w io.Writer, s mapped) error {
	if m.json {
		// In JSON empty lists, not null.
		s.Mappers = append([]mapperDetails{}, s.Mappers...)
		s.Notes = append([]string{}, s.Notes...)

		line, err := json.Marshal(s)
		if err == nil {
			_, err = fmt.Fprintln(w, escaped(string(line)))
		}
		return err
	}

	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  subject: %s\n  issuer:  %s\n  serial:  %s\n", s.Certificate,
		quotable(s.Subject), quotable(s.Issuer), s.Serial)
	if s.Good {
		fmt.Fprint(&b, "  check:   good\n")
	} else {
		fmt.Fprintf(&b, "  check:   refused: %s\n", quotable(s.Check))
	}
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "  note:    %s\n", quotable(note))
	}

	for _, d := range s.Mappers {
		fmt.Fprintf(&b, "  mapper %s", d.Name)
		if d.Type != strings.ToLower(d.Name) {
			fmt.Fprintf(&b, " (%s)", d.Type)
		}
		fmt.Fprintln(&b)

		for _, part := range []struct {
			title string
			lines []string
		}{{"read", d.Read}, {"asked", d.Asked}, {"answer", d.Answer}} {
			for _, line := range part.lines {
				fmt.Fprintf(&b, "    %-8s %s\n", part.title+":", quotable(line))
			}
		}

		fmt.Fprintf(&b, "    %-8s %s", "verdict:", quotable(d.Verdict))
		if d.User != "" {
			fmt.Fprintf(&b, ": %s", quotable(d.User))
		}
		fmt.Fprintln(&b)

		printAccounts(&b, "others:", d.Others)
		printAccounts(&b, "by name:", d.ByName)
		if n := d.Near; n != nil {
			fmt.Fprintf(&b, "    %-8s %s:%d: %s does not fit %s: %s\n", "nearest:",
				quotable(n.File), n.Line,
				quotable(n.Key), quotable(n.Text), quotable(n.Why))
		}
	}

	fmt.Fprintf(&b, "  user:    %s\n", m.conclusion(s))
	_, err := io.WriteString(w, b.String())
	return err
}

// printAccounts writes a line of accounts, if there are any.
func printAccounts(w io.Writer, title string, list []string) {
	var names []string
	for _, name := range list {
		names = append(names, quotable(name))
	}
	if len(names) > 0 {
		fmt.Fprintf(w, "    %-8s %s\n", title, strings.Join(names, ", "))
	}
}

// conclusion says whose the certificate is.
func (m mapping) conclusion(s mapped) string {
	switch {
	case s.User == "" && m.user != "":
		return "not " + quotable(m.user)
	case s.User == "":
		return "none"
	case !s.Good:
		return quotable(s.User) + " by mapper " + s.Mapper + ", but the certificate is not good"
	case s.asks():
		return quotable(s.User) + " or another account of mapper " + s.Mapper +
			": a login without a user name asks which"
	}
	return quotable(s.User) + " by mapper " + s.Mapper
}

// asks reports whether a login without a user name has to ask for the account.
func (s mapped) asks() bool {
	i := slices.IndexFunc(s.Mappers,
		func(d mapperDetails) bool { return d.Name == s.Mapper && d.User != "" })
	return i >= 0 && len(s.Mappers[i].Others) > 0
}

// quotable is text as it is, or quoted where it holds what a terminal would obey or hide.
func quotable(s string) string {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}

// errNoCertificate is returned for a file that holds none.
var errNoCertificate = errors.New("holds no certificate")

// certificatesOf are the certificates that can be used, from which chains are built.
func certificatesOf(all []source) []*certinfo.Certificate {
	var certs []*certinfo.Certificate
	for _, s := range all {
		if s.err == nil {
			certs = append(certs, s.cert)
		}
	}
	return certs
}
