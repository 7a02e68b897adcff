package main

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/accounts"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
	"pam_pkcs11/internal/redact"
	"pam_pkcs11/login/policy"
)

// showTool is the command `pam-pkcs11 config show`.
type showTool struct {
	file, service, user string
	arguments           []string

	accounts accounts.Source
	groups   accounts.Groups
	root     string // of the files of PAM; "" is this machine's
}

func newConfigShow() *cobra.Command {
	s := &showTool{accounts: accounts.System(), groups: accounts.SystemGroups()}
	command := &cobra.Command{
		Use:   "show",
		Short: "Print the configuration that is in force, and where each value comes from",
		Long: "show prints every key of the blocks in use with the value that a login goes by, and behind it where that value comes\n" +
			"from: a line of the file, the default, an argument of the module, the block of the service, or what the lists of users\n" +
			"and groups say of the user. Passwords are left out. What it prints can be read as a configuration file.\n\n" +
			"With --service it shows what holds for this PAM service, with the arguments of the module's line in its stack, unless\n" +
			"--file or --argument is given. It ends with 78 where the configuration has errors.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd.Context(), outputOf(cmd)) },
	}

	flags := command.Flags()
	flags.StringVar(&s.file, "file", "", "configuration file (default \""+config.DefaultFile+"\")")
	flags.StringArrayVar(&s.arguments, "argument", nil, "an argument of the module, as in a line of /etc/pam.d; may be repeated")
	flags.StringVar(&s.service, "service", "", "for this PAM service, such as sudo")
	flags.StringVar(&s.user, "user", "", "for this user, whom lists may name")
	jsonFlag(command)
	_ = command.RegisterFlagCompletionFunc("service", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		services, _ := pamstack.Services(s.root)
		return services, cobra.ShellCompDirectiveNoFileComp
	})
	_ = command.RegisterFlagCompletionFunc("user", cobra.NoFileCompletions)
	return command
}

// shownConfig is what is printed. Its JSON is an interface.
type shownConfig struct {
	File      string       `json:"file"`
	Service   string       `json:"service,omitempty"`
	PAMLine   string       `json:"pam_line,omitempty"` // where the arguments stand
	Arguments []string     `json:"arguments"`
	User      *shownUser   `json:"user,omitempty"`
	Blocks    []shownBlock `json:"blocks"`
}

// shownUser is what the lists say of a user.
type shownUser struct {
	Name string `json:"name"`
	Card string `json:"card"` // configured, required, optional or forbidden
	Why  string `json:"why,omitempty"`
}

// shownBlock is a block in use.
type shownBlock struct {
	Kind     string         `json:"kind"`
	Names    []string       `json:"names"`
	Settings []shownSetting `json:"settings"`
	Blocks   []shownBlock   `json:"blocks"`
}

// shownSetting is a key.
type shownSetting struct {
	Key    string        `json:"key"`
	Values []string      `json:"values"`
	Origin config.Origin `json:"origin"`
	Line   int           `json:"line,omitempty"` // of the file
}

func (s *showTool) run(ctx context.Context, o *output) error {
	answer := &shownConfig{Service: s.service, Arguments: s.arguments}
	if err := s.find(answer); err != nil {
		return err
	}
	arguments, _, err := config.ParseArguments(answer.Arguments)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	if s.file != "" {
		arguments.ConfigFile = s.file
	}
	answer.File = arguments.ConfigFile

	loaded, err := config.Load(arguments)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	final, err := loaded.ForService(s.service)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	final = s.forUser(ctx, final, answer)

	answer.Blocks = shownBlocks(loaded.InForce(s.service, final), &redact.Redactor{WithNames: true})
	if answer.Arguments == nil {
		answer.Arguments = []string{}
	}
	if o.json {
		return o.encode(answer)
	}
	return o.configuration(answer)
}

// find looks for the arguments in the service's stack, where nothing else says them.
func (s *showTool) find(answer *shownConfig) error {
	if s.service == "" || s.file != "" || len(s.arguments) > 0 {
		return nil
	}
	stack, err := pamstack.Load(s.root, s.service)
	if err != nil {
		return err
	}
	for _, line := range stack.Lines(pamstack.Auth) {
		if line.IsOurs() {
			answer.PAMLine, answer.Arguments = line.Place().String(), line.Args
			return nil
		}
	}
	return nil
}

// forUser is the configuration for the user, as a login makes it.
func (s *showTool) forUser(ctx context.Context, conf *config.Config, answer *shownConfig) *config.Config {
	if s.user == "" {
		return conf
	}
	rules := &policy.Rules{
		Persons:  conf.Global.Persons,
		Accounts: s.accounts,
		Groups:   s.groups,
		IsLocal:  accounts.IsLocal,
		Timeout:  conf.Global.VerifyTimeout,
	}
	decision := rules.For(ctx, s.user)
	answer.User = &shownUser{Name: s.user, Card: decision.Use.String(), Why: decision.Why}

	switch decision.Use {
	case policy.Required:
		return conf.WithCard()
	case policy.Optional:
		return conf.WithOrWithoutCard()
	}
	return conf
}

// shownBlocks are blocks without their secrets.
func shownBlocks(blocks []config.Settings, redactor *redact.Redactor) []shownBlock {
	all := []shownBlock{}
	for _, b := range blocks {
		block := shownBlock{Kind: b.Kind, Names: append([]string{}, b.Names...), Blocks: shownBlocks(b.Blocks, redactor)}
		for _, s := range b.Settings {
			values := redactor.Setting(s.Key, s.Values)
			block.Settings = append(block.Settings, shownSetting{Key: s.Key, Values: values, Origin: s.Origin, Line: s.Line})
		}
		all = append(all, block)
	}
	return all
}

// configuration prints it as a file, with comments.
func (o *output) configuration(c *shownConfig) error {
	var b strings.Builder
	comment := func(text message.Text) { b.WriteString("# " + shown(text.In(o.catalogue)) + "\n") }

	if c.Service != "" && c.PAMLine != "" {
		comment(message.Textf("The line of the service %s: %s, with the arguments: %s", c.Service, c.PAMLine, strings.Join(c.Arguments, " ")))
	} else if c.Service != "" && len(c.Arguments) == 0 {
		comment(message.Textf("The service %s, without arguments of the module", c.Service))
	}
	if u := c.User; u != nil {
		switch u.Card {
		case policy.Required.String():
			comment(message.Textf("%s must use a card (%s)", u.Name, u.Why))
		case policy.Optional.String():
			comment(message.Textf("%s may use a card (%s)", u.Name, u.Why))
		case policy.Forbidden.String():
			comment(message.Textf("%s must not use a card (%s): every login by card is refused", u.Name, u.Why))
		default:
			comment(message.Textf("%s is in no list: foreign_card and card_only say what a card is for", u.Name))
		}
	}

	o.blocks(&b, c, c.Blocks, "")
	_, err := fmt.Fprint(o.out, b.String())
	return err
}

// blocks writes blocks, each setting with where it comes from behind it or, where the line has no room, above it.
func (o *output) blocks(b *strings.Builder, c *shownConfig, blocks []shownBlock, indent string) {
	for i, block := range blocks {
		if indent != "" || i > 0 {
			b.WriteByte('\n')
		}
		head := config.Settings{Kind: block.Kind, Names: block.Names}.Head()
		b.WriteString(shown(indent+head+" {") + "\n")

		for _, s := range block.Settings {
			line := shown(indent + "  " + config.Setting{Key: s.Key, Values: s.Values}.String())
			from := shown("# " + o.origin(c, s))
			room := max(originColumn, utf8.RuneCountInString(line)+2)
			if room+utf8.RuneCountInString(from) <= o.width {
				fmt.Fprintf(b, "%-*s%s\n", room, line, from)
			} else {
				fmt.Fprintf(b, "%s  %s\n%s\n", indent, from, line)
			}
		}
		o.blocks(b, c, block.Blocks, indent+"  ")
		b.WriteString(indent + "}\n")
	}
}

// originColumn is where origins begin, unless a line is longer.
const originColumn = 40

// origin says where a value comes from.
func (o *output) origin(c *shownConfig, s shownSetting) string {
	place := fmt.Sprintf("%s:%d", c.File, s.Line)
	why := message.Textf("default")
	switch s.Origin {
	case config.FromFile:
		return place
	case config.FromArgument:
		why = message.Textf("argument of the module")
	case config.FromService:
		why = message.Textf("service %s, %s", c.Service, place)
	case config.FromUser:
		why = message.Textf("for the user %s", c.User.Name)
	case config.Derived:
		why = message.Textf("follows from other keys")
	}
	return why.In(o.catalogue)
}
