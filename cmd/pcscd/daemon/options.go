package daemon

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
)

// options is the command line: that of pcscd, and options of this daemon.
type options struct {
	foreground bool
	level      slog.Level
	color      bool
	apdu       bool
	config     string
	hotplug    bool
	status     bool
	autoExit   bool
	maxThread  int
	perThread  int
	perReader  int
	names      resmgr.NameOptions
	noPolkit   bool
	version    bool
	help       bool
	bundled    bool // the socket is that of logins only
	socket     string
	readers    []string
}

// option describes one option. value is the name of its argument, "" for none; a leading
// "=" makes it optional.
type option struct {
	short byte
	long  string
	value string
	text  string
	set   func(o *options, value string) error
}

func flag(p func(*options) *bool) func(*options, string) error {
	return func(o *options, _ string) error { *p(o) = true; return nil }
}

func level(l slog.Level) func(*options, string) error {
	return func(o *options, _ string) error { o.level = l; return nil }
}

func number(p func(*options) *int) func(*options, string) error {
	return func(o *options, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 10000 {
			return fmt.Errorf("%q is not a number from 1 to 10000", v)
		}
		*p(o) = n
		return nil
	}
}

func text(p func(*options) *string) func(*options, string) error {
	return func(o *options, v string) error { *p(o) = v; return nil }
}

// table has all options, in the order of the usage text.
var table = []option{
	{'a', "apdu", "", "log commands (their headers only) and status words",
		flag(func(o *options) *bool { return &o.apdu })},
	{'c', "config", "FILE", "read FILE in place of " + DefaultConfig,
		text(func(o *options) *string { return &o.config })},
	{'f', "foreground", "", "stay in the foreground, log to standard error",
		flag(func(o *options) *bool { return &o.foreground })},
	{'T', "color", "", "taken for pcscd's sake; the log has no colours",
		flag(func(o *options) *bool { return &o.color })},
	{'h', "help", "", "say what the options are",
		flag(func(o *options) *bool { return &o.help })},
	{'H', "hotplug", "", "tell the running daemon to look for readers again",
		flag(func(o *options) *bool { return &o.hotplug })},
	{0, "status", "", "list readers, cards and the programs that use them (root)",
		flag(func(o *options) *bool { return &o.status })},
	{'v', "version", "", "say which version this is",
		flag(func(o *options) *bool { return &o.version })},
	{'d', "debug", "", "log everything",
		level(slog.LevelDebug)},
	{'i', "info", "", "log information, warnings and errors",
		level(slog.LevelInfo)},
	{'e', "error", "", "log errors (the default is warnings too)",
		level(slog.LevelError)},
	{'C', "critical", "", "log next to nothing",
		level(slog.LevelError + 4)},
	{'x', "auto-exit", "", "end 60 seconds after the last client",
		flag(func(o *options) *bool { return &o.autoExit })},
	{'t', "max-thread", "N", "allow N clients (200)",
		number(func(o *options) *int { return &o.maxThread })},
	{'s', "max-card-handle-per-thread", "N", "allow N connections per client (200)",
		number(func(o *options) *int { return &o.perThread })},
	{'r', "max-card-handle-per-reader", "N", "allow N connections per reader (200)",
		number(func(o *options) *int { return &o.perReader })},
	{'I', "reader-name-no-interface", "", "no interface text in reader names",
		flag(func(o *options) *bool { return &o.names.NoInterface })},
	{'S', "reader-name-no-serial", "", "no serial number in reader names",
		flag(func(o *options) *bool { return &o.names.NoSerial })},
	{0, "force-reader-polling", "=SECONDS",
		"taken for pcscd's sake; readers are found without polling",
		func(o *options, v string) error { return nil }},
	{0, "disable-polkit", "", "do not ask polkit, whatever the configuration says",
		flag(func(o *options) *bool { return &o.noPolkit })},
	{0, "socket", "PATH", "listen at PATH, for private use: no pid file, no systemd",
		text(func(o *options) *string { return &o.socket })},
	{0, "bundled", "", "serve logins of pam_pkcs11 only, at " + pcsc.BundledSocket,
		flag(func(o *options) *bool { return &o.bundled })},
	{0, "readers", "KIND", "use these readers (%s); may be repeated, or a list with commas",
		func(o *options, v string) error {
			o.readers = append(o.readers, strings.Split(v, ",")...)
			return nil
		}},
}

// parseOptions reads the arguments after the program's name as getopt_long does.
func parseOptions(args []string) (*options, error) {
	o := &options{
		level:     slog.LevelWarn,
		maxThread: 200,
		perThread: 200,
		perReader: 200,
	}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]

		var err error
		switch {
		case arg == "--":
			if len(args) > 0 {
				return nil, fmt.Errorf("%q is not an option", args[0])
			}
		case strings.HasPrefix(arg, "--"):
			args, err = o.long(arg[2:], args)
		case len(arg) > 1 && arg[0] == '-':
			args, err = o.short(arg[1:], args)
		default:
			err = fmt.Errorf("%q is not an option", arg)
		}

		if err != nil {
			return nil, err
		}
	}
	return o, nil
}

// long reads an option of the form --name, --name=value or --name value. It returns the
// arguments that are left.
func (o *options) long(arg string, rest []string) ([]string, error) {
	name, value, given := strings.Cut(arg, "=")
	for _, t := range table {
		if t.long != name {
			continue
		}

		optional := strings.HasPrefix(t.value, "=")
		switch {
		case given && t.value == "":
			return nil, fmt.Errorf("--%s takes no argument", name)
		// An optional argument is given with "=" only, as with getopt_long.
		case !given && t.value != "" && !optional:
			if len(rest) == 0 {
				return nil, fmt.Errorf("--%s needs an argument: %s", name, t.value)
			}
			value = rest[0]
			rest = rest[1:]
		}

		if err := t.set(o, value); err != nil {
			return nil, fmt.Errorf("--%s: %w", name, err)
		}
		return rest, nil
	}
	return nil, fmt.Errorf("unknown option --%s", name)
}

// short reads the letters of an argument like -fd. It returns the arguments that are left.
func (o *options) short(letters string, rest []string) ([]string, error) {
	for letters != "" {
		letter := letters[0]
		letters = letters[1:]

		i := 0
		// Options without a letter have 0, which an argument cannot have.
		for ; i < len(table) && (table[i].short != letter || letter == 0); i++ {
		}
		if i == len(table) {
			return nil, fmt.Errorf("unknown option -%c", letter)
		}

		value := ""
		// The argument is the rest of the letters, or the next argument.
		if table[i].value != "" {
			switch {
			case letters != "":
				value = letters
				letters = ""
			case len(rest) > 0:
				value = rest[0]
				rest = rest[1:]
			default:
				return nil, fmt.Errorf("-%c needs an argument: %s", letter, table[i].value)
			}
		}

		if err := table[i].set(o, value); err != nil {
			return nil, fmt.Errorf("-%c: %w", letter, err)
		}
	}
	return rest, nil
}

// environment reads the variables that pcscd knows.
func (o *options) environment(env func(string) string) {
	if v := env("PCSCLITE_FILTER_IGNORE_READER_NAMES"); v != "" {
		for _, part := range strings.Split(v, ":") {
			if part != "" {
				o.names.Ignore = append(o.names.Ignore, part)
			}
		}
	}
	o.names.Extend = env("PCSCLITE_FILTER_EXTEND_READER_NAMES")
}

// check refuses options that do not go together, and sets those that follow from others.
func (o *options) check(kinds []string) error {
	if o.bundled && o.socket == "" {
		o.socket = pcsc.BundledSocket
	}
	if len(o.readers) == 0 {
		return nil
	}

	for _, r := range o.readers {
		kind, _, _ := strings.Cut(r, ":")
		known := false
		for _, k := range kinds {
			// The usage of a kind begins with its name.
			name := strings.FieldsFunc(k, func(r rune) bool { return r == ':' || r == '[' })[0]
			known = known || kind == name
		}
		if !known {
			return fmt.Errorf("--readers %s: there are %s", r, strings.Join(kinds, ", "))
		}
	}

	// With chosen readers it must not become the daemon of the machine unnoticed.
	if o.socket == "" && !o.foreground {
		return errors.New("--readers needs --foreground or --socket")
	}
	return nil
}

func usage(w io.Writer, program string, kinds []string) {
	fmt.Fprintf(w, "Usage: %s [options]\n", program)
	for _, t := range table {
		left := "    --" + t.long
		if t.short != 0 {
			left = fmt.Sprintf("-%c, --%s", t.short, t.long)
		}

		switch {
		case strings.HasPrefix(t.value, "="):
			left += "[" + t.value + "]"
		case t.value != "":
			left += " " + t.value
		}

		what := t.text
		if strings.Contains(what, "%s") {
			what = fmt.Sprintf(what, strings.Join(kinds, ", "))
		}

		fmt.Fprintf(w, "  %-38s %s\n", left, what)
	}
}
