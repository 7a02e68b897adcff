package config

import (
	"fmt"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// DefaultFile is read when no module argument names another.
const DefaultFile = "/etc/pam_pkcs11/pam_pkcs11.conf"

// FailClosed is the argument that makes a refusal of every fault of the module itself. Whoever
// answers a fault looks for it in the words as they are: it is about configurations that cannot be
// read, too.
const FailClosed = "fail_closed"

// argumentsFile stands for the file in errors and notes about module arguments.
const argumentsFile = "module arguments"

// maxArguments and maxArgument bound what libpam hands over.
const (
	maxArguments = 64
	maxArgument  = 4096
)

// Arguments are the words after the module's name in a PAM service file. What is nil was not given.
type Arguments struct {
	ConfigFile string // DefaultFile when not given

	Debug, Quiet, NullOK, TryFirstPass, UseFirstPass, CardOnly, WaitForCard, SkipForeign *bool

	SlotNum *int

	SlotDescription, CADir, CRLDir, TokenType *string

	EmptyPIN *string // "error" or "fallback"

	PKCS11Module string   // name of a block, or path of a library; "" when not given
	CertPolicy   []string // words, in order
}

// flag reads an argument that stands alone; false when there is none of that name.
func (a *Arguments) flag(name string) bool {
	yes, no := new(bool), new(bool)
	*yes = true

	switch name {
	case "debug":
		a.Debug = yes
	case "nodebug":
		a.Debug = no
	case "quiet":
		a.Quiet = yes
	case "nullok":
		a.NullOK = yes
	case "try_first_pass":
		a.TryFirstPass = yes
	case "use_first_pass":
		a.UseFirstPass = yes
	case "card_only":
		a.CardOnly = yes
	case "wait_for_card":
		a.WaitForCard = yes
	case "dont_wait_for_card":
		a.WaitForCard = no
	case "skip_foreign":
		a.SkipForeign = yes
	case FailClosed: // read by whoever answers a fault
	default:
		return false
	}
	return true
}

// Arguments without effect, with what to know about them.
var idleArguments = map[string]string{
	"use_authtok":    "was never read",
	"expose_account": "is about text that this module does not print",
	"no_warn":        "is not needed; quiet is for that",
	"crl_policy=":    "is the old name of words of cert_policy=",
	"nss_dir=":       "belonged to builds with NSS",
}

// argumentNames for "did you mean".
var argumentNames = []string{
	"debug", "nodebug", "quiet", "nullok", "try_first_pass", "use_first_pass", "card_only",
	"wait_for_card", "dont_wait_for_card", "skip_foreign", FailClosed,
	"empty_pin=", "config_file=", "slot_num=", "slot_description=", "ca_dir=", "crl_dir=",
	"token_type=", "cert_policy=", "pkcs11_module=",
	"use_authtok", "expose_account", "no_warn", "crl_policy=", "nss_dir=",
}

// ParseArguments reads the module's arguments, each matched as a whole (the C module was content
// when an argument held a name somewhere). Later ones override earlier ones, except that the first
// config_file counts. The error is an Errors.
func ParseArguments(args []string) (*Arguments, []finding.Note, error) {
	p := argumentParser{a: &Arguments{ConfigFile: DefaultFile}}
	if len(args) > maxArguments {
		p.errs.Add(&finding.Error{
			File: argumentsFile,
			Text: fmt.Sprintf("more than %d arguments", maxArguments),
		})

		// None is looked at: errors about single ones would come from the same mistake.
		args = nil
	}

	for i, arg := range args {
		p.at = scconf.Word{Text: arg, Line: i + 1}
		p.argument(arg)
	}

	if err := p.errs.Err(); err != nil {
		return nil, p.notes, err
	}
	return p.a, p.notes, nil
}

type argumentParser struct {
	a     *Arguments
	at    scconf.Word
	file  bool // config_file was given
	errs  finding.Errors
	notes []finding.Note
}

func (p *argumentParser) fail(f *schema.Fault) {
	p.errs.Add(&finding.Error{
		File: argumentsFile,
		Line: p.at.Line,
		Text: f.Text,
		Hint: f.Hint,
	})
}

func (p *argumentParser) note(kind finding.NoteKind, text string) {
	finding.AddNote(&p.notes, finding.Note{
		File: argumentsFile,
		Line: p.at.Line,
		Kind: kind,
		Text: text,
	})
}

func (p *argumentParser) argument(arg string) {
	if len(arg) > maxArgument || strings.IndexByte(arg, 0) >= 0 {
		p.fail(&schema.Fault{Text: "an argument is too long or holds a NUL byte"})
		return
	}

	name, val, hasValue := strings.Cut(arg, "=")
	if hasValue {
		name += "="
	}

	// Accepted: a line that worked with the C module must not refuse every login now.
	if why, ok := idleArguments[name]; ok {
		p.note(finding.NoteNoEffect, strings.TrimSuffix(name, "=")+" has no effect: it "+why)
		return
	}

	var known bool
	if hasValue {
		known = p.setting(name, val)
	} else {
		known = p.a.flag(name)
	}
	if known {
		return
	}

	// A key of the file is more likely meant than an argument that looks alike.
	hint := finding.DidYouMean(name, argumentNames)
	key := schema.Global.Find(strings.TrimSuffix(name, "="))
	if key != nil && key.Status != schema.NoEffect {
		hint = "set it in the configuration file"
	}

	p.fail(&schema.Fault{Text: "unknown argument " + finding.Quote(arg), Hint: hint})
}

// setting reads an argument with a value; false when there is none of that name.
func (p *argumentParser) setting(name, val string) bool {
	// As if in quotes: what libpam hands over is one word already.
	w := scconf.Word{Text: val, Quoted: true, Line: p.at.Line}

	switch name {
	case "config_file=":
		p.configFile(val)
	case "slot_num=":
		if v, ok := p.decode("slot_num", w); ok {
			p.a.SlotNum = &v.Number
		}
	case "slot_description=":
		p.a.SlotDescription = &val
	case "token_type=":
		p.a.TokenType = &val
	case "empty_pin=":
		if v, ok := p.decodeIn(&schema.Global, "empty_pin", w); ok {
			word := v.Text()
			p.a.EmptyPIN = &word
		}
	case "ca_dir=":
		p.path("ca_dir", w, &p.a.CADir)
	case "crl_dir=":
		p.path("crl_dir", w, &p.a.CRLDir)
	case "pkcs11_module=":
		p.a.PKCS11Module = val
		if val == "" {
			p.fail(&schema.Fault{Text: "pkcs11_module= names nothing",
				Hint: "the name of a pkcs11_module block or the path of a library"})
		}

		p.note(finding.NoteDifferent, "pkcs11_module= had no effect in the C module")
	case "cert_policy=":
		// Several add up; `none` among them clears the words of the file (Policy.withArgument).
		if v, ok := p.decode("cert_policy", w); ok && v.Set {
			p.a.CertPolicy = append(p.a.CertPolicy, v.Texts...)
		}
	default:
		return false
	}
	return true
}

func (p *argumentParser) configFile(path string) {
	switch {
	case p.file:
		p.note(finding.NoteTolerated, "config_file= is given twice, the first counts")
	case !strings.HasPrefix(path, "/"):
		p.fail(&schema.Fault{Text: "config_file= is not an absolute path"})
	default:
		p.a.ConfigFile = path
		p.file = true
	}
}

// decode reads the value as that of the key of the module block.
func (p *argumentParser) decode(key string, w scconf.Word) (schema.Value, bool) {
	return p.decodeIn(&schema.Module, key, w)
}

// decodeIn reads the value as that of the key of a block.
func (p *argumentParser) decodeIn(t *schema.Table, key string, w scconf.Word) (schema.Value, bool) {
	v, _, f := t.Find(key).Decode([]scconf.Word{w})
	if f != nil {
		p.fail(f)
		return v, false
	}
	return v, true
}

func (p *argumentParser) path(key string, w scconf.Word, to **string) {
	if v, ok := p.decode(key, w); ok {
		path := v.Text()
		*to = &path
	}
}
