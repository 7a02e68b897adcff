package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
)

// doctorTool is `pam-pkcs11 doctor`.
type doctorTool struct {
	config  string
	root    string
	user    string
	service string
	fix     bool
}

func newDoctor() *cobra.Command {
	d := &doctorTool{}
	cmd := &cobra.Command{
		Use:   "doctor [CHECK...]",
		Short: "Look at every link of the way from the reader to the PAM stack",
		Long: "doctor looks at every link of the way that a login by card takes, from the USB node to the PAM stack, and says of\n" +
			"each whether it is good, what is wrong with it, and what mends it. It changes nothing, logs nobody in, and spends no\n" +
			"try of a PIN. Run it as root, who sees what a login sees; what it cannot look at it says.\n\n" +
			"With the names of checks it looks at these only:\n  " + strings.Join(checkNames(), "\n  ") + "\n\n" +
			"It ends with 0 where nothing is wrong, 1 with warnings, and 2 where a login is or may be refused.",
		RunE: func(cmd *cobra.Command, args []string) error { return d.run(cmd, args) },
	}

	d.machineFlags(cmd, "look at the files of a machine that does not run, below this directory")
	cmd.Flags().StringVar(&d.service, "service", "", "the PAM service that is meant")
	cmd.Flags().BoolVar(&d.fix, "fix", false, "mend what can be mended without risk, and say what was done")
	jsonFlag(cmd)
	return twoIsRefusal(cmd)
}

// machineFlags are the options that say which machine and whose login is meant; root explains --root.
func (d *doctorTool) machineFlags(cmd *cobra.Command, root string) {
	flags := cmd.Flags()
	flags.StringVar(&d.config, "config", config.DefaultFile, "configuration file")
	flags.StringVar(&d.root, "root", "", root)
	flags.StringVar(&d.user, "user", "", "whose login is meant")
}

// noRoot is the error of a --root that is no directory: an empty machine has nothing wrong with it.
func (d *doctorTool) noRoot() error {
	if d.root == "" {
		return nil
	}
	info, err := os.Stat(d.root)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s: %w", d.root, syscall.ENOTDIR)
	}
	return err
}

// checkNames are the names of all checks, each with what it looks at.
func checkNames() []string {
	var names []string
	for _, c := range doctor.Checks() {
		names = append(names, fmt.Sprintf("%-22s %s", c.ID, c.Title))
	}
	return names
}

// mended is a finding that --fix has mended, or has not.
type mended struct {
	ID      string `json:"id"`
	Subject string `json:"subject"`
	Error   string `json:"error,omitempty"` // why it was not mended
}

// diagnosed is the answer of doctor.
type diagnosed struct {
	Findings diagnosis.Findings `json:"findings"`
	Mended   []mended           `json:"mended,omitempty"`
	Summary  message.Text       `json:"summary"`
	ExitCode int                `json:"exit_code"`
}

func (d *doctorTool) run(cmd *cobra.Command, checks []string) error {
	for _, id := range checks {
		if !doctor.Known(id) {
			return &cli.Error{Code: cli.UsageBeside2, Err: fmt.Errorf("there is no check %q (see %s --help)", id, cmd.CommandPath())}
		}
	}
	if err := d.noRoot(); err != nil {
		return &cli.Error{Code: cli.UsageBeside2, Err: err}
	}
	m := d.machine(cmd.ErrOrStderr())

	answer := diagnose(cmd.Context(), m, checks)
	if d.fix {
		answer.Mended = mend(answer.Findings)
	}
	if len(answer.Mended) > 0 {
		m = d.machine(cmd.ErrOrStderr())
		done := answer.Mended
		answer = diagnose(cmd.Context(), m, checks) // as it is now
		answer.Mended = done
	}
	if err := answer.print(outputOf(cmd)); err != nil {
		return err
	}
	if answer.ExitCode != 0 {
		return &cli.Error{Code: answer.ExitCode}
	}
	return nil
}

// machine is what is looked at.
func (d *doctorTool) machine(stderr io.Writer) *doctor.Machine {
	m := doctor.NewMachine(d.root, d.config)
	m.User, m.Service = d.user, d.service
	if d.user == "" || !m.Live() {
		return m
	}

	a, err := accounts.System().Lookup(d.user)
	switch {
	case errors.Is(err, accounts.ErrNoAccount):
		m.UID = -1 // a check says so
	case err != nil:
		fmt.Fprintf(stderr, "%s: %s cannot be looked up: %v\n", program, d.user, err)
		m.UID = -1
	default:
		m.UID = int(a.UID)
	}
	return m
}

// diagnose runs the checks.
func diagnose(ctx context.Context, m *doctor.Machine, checks []string) *diagnosed {
	found := doctor.Run(ctx, m, checks)
	return &diagnosed{Findings: found, Summary: summary(found), ExitCode: found.ExitCode()}
}

// mend does what can be done without risk.
func mend(found diagnosis.Findings) []mended {
	var all []mended
	for _, f := range found {
		if f.Fix == nil {
			continue
		}
		one := mended{ID: f.ID, Subject: f.Subject}
		if err := f.Fix(); err != nil {
			one.Error = err.Error()
		}
		all = append(all, one)
	}
	return all
}

// summary is the closing sentence.
func summary(found diagnosis.Findings) message.Text {
	good, warnings, refusals := found.Count(diagnosis.OK), found.Count(diagnosis.Warning), found.Count(diagnosis.Refusal)
	switch {
	case refusals == 1:
		return message.Textf("%d links are good; 1 refuses logins", good)
	case refusals > 1:
		return message.Textf("%d links are good; %d refuse logins", good, refusals)
	case warnings == 1:
		return message.Textf("%d links are good; 1 may refuse a login", good)
	case warnings > 1:
		return message.Textf("%d links are good; %d may refuse a login", good, warnings)
	}
	return message.Textf("nothing is wrong")
}

// together puts what checks say that need a configuration into one finding, for people: each would say the same.
func together(found diagnosis.Findings) diagnosis.Findings {
	others := slices.DeleteFunc(slices.Clone(found), doctor.Waits)
	count := len(found) - len(others)
	if count < 2 {
		return found
	}

	one := diagnosis.Finding{ID: "checks-wait", Severity: diagnosis.Note, Subject: "configuration"}
	if slices.ContainsFunc(found, func(f diagnosis.Finding) bool { return f.ID == doctor.IDConfigurationMissing }) {
		one.Fact = message.Textf("%d checks wait for a configuration: run pam-pkcs11 setup", count)
	} else {
		one.Fact = message.Textf("%d checks wait until the configuration can be read and has no errors: run pam-pkcs11 config check", count)
	}
	return append(others, one)
}

// print prints the links, what was mended, and the closing sentence.
func (a *diagnosed) print(o *output) error {
	if o.json {
		return o.encode(a)
	}
	if err := o.findings(together(a.Findings)); err != nil {
		return err
	}
	for _, one := range a.Mended {
		err := o.say("mended: %s", one.Subject)
		if one.Error != "" {
			err = o.say("not mended: %s: %s", one.Subject, one.Error)
		}
		if err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(o.out, a.Summary.In(o.catalogue))
	return err
}
