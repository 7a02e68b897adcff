package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/message"
)

// Help and completion, in place of cobra's: those take a word that is no command or shell for a call without one, and end
// with 0.

// newHelp is `pam-pkcs11 help`.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND...]",
		Short: "Show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &cli.Error{Code: cli.Usage, Err: fmt.Errorf("there is no command %q (see %s help)", strings.Join(args, " "), program)}
			}
			found.InitDefaultHelpFlag()
			found.SetOut(cmd.OutOrStdout())
			return found.Help()
		},
	}
}

// newCompletion is `pam-pkcs11 completion`.
func newCompletion() *cobra.Command {
	command := &cobra.Command{
		Use:   "completion",
		Short: "Print what lets a shell complete commands and options",
		Long: "completion prints a script that lets a shell complete the commands and options of " + program + ". The packages install\n" +
			"it; by hand, for this session:\n\n" +
			"  bash: . <(" + program + " completion bash)\n" +
			"  zsh:  . <(" + program + " completion zsh)\n" +
			"  fish: " + program + " completion fish | source",
		Args: noArguments,
		RunE: onlySubcommands,
	}
	for _, shell := range []struct {
		name  string
		write func(root *cobra.Command, w io.Writer) error
	}{
		{"bash", func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
		{"fish", func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }},
		{"zsh", func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) }},
	} {
		command.AddCommand(&cobra.Command{
			Use:   shell.name,
			Short: "Print the script for this shell",
			Args:  noArguments,
			RunE:  func(cmd *cobra.Command, _ []string) error { return shell.write(cmd.Root(), cmd.OutOrStdout()) },
		})
	}
	return command
}

// translateHelp puts the short texts of commands and flags, and the headings of their help, into the user's language.
func translateHelp(root *cobra.Command, c message.Catalogue) {
	wrapFlags()
	root.SetUsageTemplate(usageTemplate(c))

	var translate func(cmd *cobra.Command)
	translate = func(cmd *cobra.Command) {
		cmd.Short = c.Get(cmd.Short)
		cmd.Flags().BoolP("help", "h", false, message.Textf("show this help").In(c))
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { f.Usage = c.Get(f.Usage) })
		for _, sub := range cmd.Commands() {
			translate(sub)
		}
	}
	translate(root)
}

// usageTemplate is what stands below the description of a command, in the form of cobra's.
func usageTemplate(c message.Catalogue) string {
	heading := func(text message.Text) string { return text.In(c) }
	return heading(message.Textf("Usage:")) + `
{{- if .Runnable}}
  {{.UseLine}}{{end}}
{{- if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]

` + heading(message.Textf("Available Commands:")) + `
{{- range .Commands}}{{if or .IsAvailableCommand (eq .Name "help")}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

` + heading(message.Textf("Flags:")) + `
{{wrappedFlags .LocalFlags}}{{end}}
{{- if .HasAvailableInheritedFlags}}

` + heading(message.Textf("Global Flags:")) + `
{{wrappedFlags .InheritedFlags}}{{end}}
{{- if .HasAvailableSubCommands}}

` + heading(message.Textf(`Use "%s [command] --help" for more information about a command.`, "{{.CommandPath}}")) + `{{end}}
`
}

// wrapFlags lets templates write flags in the width of the terminal; cobra's functions are those of the whole program.
var wrapFlags = sync.OnceFunc(func() {
	cobra.AddTemplateFunc("wrappedFlags", func(flags *pflag.FlagSet) string {
		columns, _, err := term.GetSize(int(os.Stdout.Fd()))
		if err != nil {
			columns = 0 // no terminal: each flag on a line
		}
		return strings.TrimRight(flags.FlagUsagesWrapped(columns), " \n")
	})
})
