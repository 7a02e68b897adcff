package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/login"
	"pam_pkcs11/verify"
)

// crlFlags are those of all subcommands of crl.
type crlFlags struct {
	config  string
	store   string
	timeout time.Duration
	period  time.Duration // between two runs of update, 0 where it does not matter
}

func newCRL() *cobra.Command {
	flags := &crlFlags{}
	command := &cobra.Command{
		Use:   "crl",
		Short: "Work on certificate revocation lists",
		Args:  noArguments,
		RunE:  onlySubcommands,
	}
	command.PersistentFlags().StringVar(&flags.config, "config", config.DefaultFile, "configuration file")
	command.PersistentFlags().StringVar(&flags.store, "store", verify.DefaultStore, "directory of what is kept between logins")
	update := &cobra.Command{
		Use:   "update",
		Short: "Fetch the lists that logins will need and build their indexes",
		Long: "update fetches the lists of crl_url, of the certificates in ca_dir and of the distribution points that were\n" +
			"recorded at logins, and builds the indexes of all lists in crl_dir and in the store, so that a login reads a few\n" +
			"octets of each. It prints one line for each list or address that could not be had or used, and ends with 69 when an\n" +
			"address gave none and no list of it is in date, else 65 when a list cannot be used, else 75 when only a later run\n" +
			"is needed.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return updateCRLs(cmd, flags) },
	}
	flags.timeout = 10 * time.Minute
	update.Flags().DurationVar(&flags.timeout, "timeout", flags.timeout, "end after this time")
	update.Flags().DurationVar(&flags.period, "period", time.Hour, "how often it is run: until then no login asks an address that answered")
	list := &cobra.Command{
		Use:   "list",
		Short: "Print the lists in crl_dir and in the store",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return listCRLs(cmd, flags) },
	}
	check := &cobra.Command{
		Use:   "check FILE...",
		Short: "Read lists from beginning to end, with their signatures and dates",
		Args:  cobra.ArbitraryArgs,
		RunE:  func(cmd *cobra.Command, args []string) error { return checkCRLs(cmd, flags, args) },
	}

	for _, sub := range []*cobra.Command{update, newCRLAccept(flags), list, check} {
		jsonFlag(sub)
		command.AddCommand(sub)
	}
	return command
}

// verifier is that of the first block in use.
func (f *crlFlags) verifier(cmd *cobra.Command) (*verify.Verifier, error) {
	all, err := f.verifiers(cmd)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// verifiers are made by the configuration, one for each block in use whose rules are others and that asks for lists,
// with nothing to say about OCSP. The first block has one in any case.
func (f *crlFlags) verifiers(cmd *cobra.Command) ([]*verify.Verifier, error) {
	conf, err := config.Load(&config.Arguments{ConfigFile: f.config})
	if err != nil {
		return nil, &cli.Error{Code: cli.Config, Err: err}
	}

	var all []*verify.Verifier
	var rules []verify.Options
	for i := range conf.Modules {
		o, err := login.VerifyOptions(conf.Block(i))
		if err != nil {
			return nil, &cli.Error{Code: cli.Config, Err: err}
		}
		o.CRLPeriod = f.period
		o.Policy, o.StoreDir, o.Soft = verify.Policy{CA: true, CRL: o.Policy.CRL}, f.store, false
		known := slices.ContainsFunc(rules, func(other verify.Options) bool { return reflect.DeepEqual(o, other) })
		if known || i > 0 && o.Policy.CRL == "" {
			continue
		}
		rules = append(rules, o)

		o.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelError}))
		v, err := verify.New(o)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func updateCRLs(cmd *cobra.Command, flags *crlFlags) error {
	if flags.period < 0 || flags.period > verify.LongestCRLPeriod {
		return &cli.Error{Code: cli.Usage, Err: fmt.Errorf("--period %s: expected 0 to %s", flags.period, verify.LongestCRLPeriod)}
	}
	verifiers, err := flags.verifiers(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
	defer cancel()
	bar := newProgressBar(cmd.ErrOrStderr())
	var reports []verify.CRLReport
	for _, v := range verifiers {
		some, failed := v.UpdateCRLs(ctx, bar.show)
		reports, err = append(reports, some...), errors.Join(err, failed)
	}
	bar.clear()
	if errors.Is(err, os.ErrPermission) {
		return &cli.Error{Code: cli.NoPerm, Err: err}
	}
	if o := outputOf(cmd); o.json {
		err = errors.Join(o.encode(crlAnswers(faulty(reports))), err)
	} else {
		err = errors.Join(printLines(cmd.ErrOrStderr(), faulty(reports)), err)
	}
	if err != nil {
		return err
	}
	if code := updateCode(reports); code != cli.OK {
		return &cli.Error{Code: code}
	}
	return nil
}

func faulty(reports []verify.CRLReport) []verify.CRLReport {
	var bad []verify.CRLReport
	for _, r := range reports {
		if r.Err != nil {
			bad = append(bad, r)
		}
	}
	return bad
}

func listCRLs(cmd *cobra.Command, flags *crlFlags) error {
	verifiers, err := flags.verifiers(cmd)
	if err != nil {
		return err
	}
	var all []verify.CRLReport
	for _, v := range verifiers {
		for _, r := range v.ListCRLs() {
			same := func(other verify.CRLReport) bool { return reportLine(other) == reportLine(r) }
			if !slices.ContainsFunc(all, same) { // the store is that of all blocks
				all = append(all, r)
			}
		}
	}
	return printReports(outputOf(cmd), all)
}

func checkCRLs(cmd *cobra.Command, flags *crlFlags, files []string) error {
	if len(files) == 0 {
		return &cli.Error{Code: cli.Usage, Err: errors.New("no file is given (see " + cmd.CommandPath() + " --help)")}
	}
	v, err := flags.verifier(cmd)
	if err != nil {
		return err
	}
	bar := newProgressBar(cmd.ErrOrStderr())
	var all []verify.CRLReport
	for _, file := range files {
		reports, err := v.CheckCRLs(file, bar.show)
		if err != nil {
			reports = append(reports, verify.CRLReport{Path: file, Entries: -1, Err: err})
		}
		all = append(all, reports...)
	}
	bar.clear()
	return printReports(outputOf(cmd), all)
}

// printReports prints a line for each; the answer is no when one has an error.
func printReports(o *output, reports []verify.CRLReport) error {
	var err error
	if o.json {
		err = o.encode(crlAnswers(reports))
	} else {
		err = printLines(o.out, reports)
	}
	if err != nil {
		return err
	}
	if len(faulty(reports)) > 0 {
		return &cli.Error{Code: cli.Failure}
	}
	return nil
}

func printLines(out io.Writer, reports []verify.CRLReport) error {
	for _, r := range reports {
		if _, err := fmt.Fprintln(out, reportLine(r)); err != nil {
			return err
		}
	}
	return nil
}

// crlAnswer is the JSON of a list. What is not known is left out.
type crlAnswer struct {
	Path       string     `json:"path,omitempty"`
	URL        string     `json:"url,omitempty"`
	Issuer     string     `json:"issuer,omitempty"`
	Number     string     `json:"number,omitempty"`
	Delta      bool       `json:"delta,omitempty"`
	ThisUpdate *time.Time `json:"this_update,omitempty"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
	Entries    *int       `json:"entries,omitempty"`
	Indexed    bool       `json:"indexed,omitempty"`
	Error      string     `json:"error,omitempty"`
}

// crlAnswers are those of lists, in their order.
func crlAnswers(reports []verify.CRLReport) []crlAnswer {
	all := []crlAnswer{}
	for _, r := range reports {
		all = append(all, crlAnswerOf(r))
	}
	return all
}

func crlAnswerOf(r verify.CRLReport) crlAnswer {
	a := crlAnswer{Path: r.Path, URL: r.URL, Issuer: r.Issuer, Number: r.Number, Delta: r.Delta, Indexed: r.Indexed}
	if r.Issuer != "" {
		thisUpdate := r.ThisUpdate.UTC()
		a.ThisUpdate = &thisUpdate
		if !r.NextUpdate.IsZero() {
			nextUpdate := r.NextUpdate.UTC()
			a.NextUpdate = &nextUpdate
		}
		if r.Entries >= 0 {
			a.Entries = &r.Entries
		}
	}
	if r.Err != nil {
		a.Error = r.Err.Error()
	}
	return a
}

// reportLine is "file: what it is: what is wrong with it".
func reportLine(r verify.CRLReport) string {
	place := r.Path
	if place == "" {
		place = r.URL
	}
	line := place + ":"
	if r.Issuer != "" {
		line += " " + fmt.Sprintf("%q", r.Issuer)
		if r.Number != "" {
			line += " number " + r.Number
		}
		if r.Delta {
			line += " (delta)"
		}
		line += ", of " + stamp(r.ThisUpdate)
		if !r.NextUpdate.IsZero() {
			line += " to " + stamp(r.NextUpdate)
		}
		if r.Entries >= 0 {
			line += fmt.Sprintf(", %d entries", r.Entries)
		}
		if r.Indexed {
			line += ", indexed"
		}
		if r.URL != "" && r.Path != "" {
			line += ", from " + r.URL
		}
	}
	if r.Err != nil {
		text := strings.ReplaceAll(r.Err.Error(), "\n", "; ")
		line += " " + strings.TrimPrefix(text, place+": ") + " [error]"
	}
	return line
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// progressBar is one line on a terminal, and nothing elsewhere.
type progressBar struct {
	out   io.Writer
	shown bool
	last  time.Time
}

const (
	barWidth = 30
	barEvery = 100 * time.Millisecond
)

func newProgressBar(out io.Writer) *progressBar {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progressBar{}
	}
	return &progressBar{out: out}
}

// show draws the bar, ten times a second at most. An unknown total is shown as the amount alone.
func (b *progressBar) show(what string, done, total int64) {
	if b.out == nil || time.Since(b.last) < barEvery {
		return
	}
	b.last, b.shown = time.Now(), true
	if total <= 0 {
		fmt.Fprintf(b.out, "\r\033[K%8d KiB %s", done>>10, onTerminal(what))
		return
	}
	full := int(min(done, total) * barWidth / total)
	fmt.Fprintf(b.out, "\r\033[K[%s%s] %3d%% %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), min(done, total)*100/total, onTerminal(what))
}

// clear takes the line away.
func (b *progressBar) clear() {
	if b.shown {
		fmt.Fprint(b.out, "\r\033[K")
	}
}

// onTerminal keeps an address from a certificate from steering the terminal.
func onTerminal(s string) string {
	const most = 60
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r > '~' {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		return "..." + s[len(s)-most:]
	}
	return s
}
