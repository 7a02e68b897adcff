package config

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// Config is a configuration without faults.
type Config struct {
	File    string // as given, for messages
	Global  Global
	Module  Module
	Mappers []Mapper // those in use, in the order of use_mappers
	Notes   []finding.Note

	written []schema.Values // the blocks pkcs11_module and pam_pkcs11, for the places of their keys
}

// Fault makes an error about a key of the block pkcs11_module or pam_pkcs11, with the place where it is written or,
// where its default or an argument counts, without one.
func (c *Config) Fault(key string, err error) *finding.Error {
	e := &finding.Error{File: c.File, Text: err.Error(), Cause: err}
	for _, block := range c.written {
		if block.Has(key) && block.Set(key) {
			at := block.Get(key).At
			e.Line, e.Col = at.Line, at.Col
			break
		}
	}
	return e
}

// Global is the settings of the block pam_pkcs11, module arguments applied. The schema documents each.
type Global struct {
	NullOK, Debug, Quiet           bool
	ErrDisplayTime                 time.Duration // 0 to 60 s
	UseFirstPass                   bool
	TryFirstPass                   bool
	CardOnly, WaitForCard          bool
	WaitForCardTimeout             time.Duration // 1 to 600 s
	ScreenSavers                   []string      // PAM service names
	StrictPermissions              bool
	ForeignCard                    string // "refuse" or "skip"
	CertificatesAfterPIN           string // "auto", "yes" or "no"
	AskCertificate                 bool
	RequirePIN                     bool
	PINPattern                     *regexp.Regexp // nil when not set; anchored at both ends
	EmptyPIN                       string         // "error" or "fallback"
	ForwardPIN                     string         // "off" or "success"
	RemoteLogin                    string         // "refuse" or "allow"
	RemoteLoginHides               bool           // only with ForeignCard "refuse"
	LoopbackIsLocal                bool
	UnverifiedNames                bool
	AllowUnknownUser               bool
	DirectoryMayNameSystemAccounts bool
	VerifyTimeout                  time.Duration // 1 to 300 s
}

// Module is the settings of the selected block pkcs11_module, module arguments applied.
type Module struct {
	Name            string // of the block; "" when an argument named a library and there is no block
	Path            string // of the library, as written
	Description     string
	TokenType       string // for prompts
	SlotNum         int    // 0, or 1-based place in the slot list
	SlotDescription string // prefix, "none", or ""
	TokenLabel      string
	TokenURI        string // RFC 7512, begins with pkcs11:
	SupportThreads  bool
	CADir, CRLDir   string   // absolute
	Environment     []string // NAME=value
	Policy          Policy
	EKU             EKU
	Chain           Chain
	CRL             CRL
	Proxy           string   // http://HOST:PORT, or ""
	NoProxy         []string // hosts, domains, addresses and networks that are reached without Proxy
	SoftRevocation  bool     // revocation = soft
	OCSP            OCSP
}

// EKU is what the extended key usage must allow.
type EKU struct {
	Ignore   bool
	Required []string // object identifiers; empty: clientAuth, smartcardLogon or any, where the extension is present
}

// builder makes a Config of a tree.
type builder struct {
	*schema.Reader
	errs   *finding.Errors
	args   *Arguments
	conf   *Config
	global schema.Values // as written, without the arguments
	module schema.Values
}

// build reads the whole tree, the blocks that are not in use for their notes.
func build(file string, root *scconf.Block, args *Arguments, errs *finding.Errors, notes *[]finding.Note) *builder {
	b := &builder{Reader: schema.NewReader(file, errs, notes), errs: errs, args: args, conf: &Config{File: file}}
	main := b.mainBlock(root)
	if main == nil {
		return b
	}
	b.global = b.Read(main, &schema.Global, "pkcs11_module", "mapper")
	b.conf.Global = b.buildGlobal()
	b.checkHiding()
	b.buildModule(main)
	b.buildMappers(main)
	b.fillLDAPServers()
	b.conf.written = []schema.Values{b.module, b.global}
	return b
}

// refuse adds an error; in a block that is not in use it is a note.
func (b *builder) refuse(at scconf.Word, text, hint string) {
	b.Fault(&schema.Fault{At: at, Text: text, Hint: hint})
}

// mainBlock finds pam_pkcs11 { } and looks at what else stands outside.
func (b *builder) mainBlock(root *scconf.Block) *scconf.Block {
	var main *scconf.Block
	for _, it := range root.Items {
		near := finding.Distance(strings.ToLower(it.Key.Text), "pam_pkcs11", 3) < 3
		switch {
		case it.Block == nil:
			b.Note(it.Key, finding.NoteNoEffect, finding.Quote(it.Key.Text)+" stands outside the block pam_pkcs11 and is not read")
		case scconf.SameKey(it.Key.Text, "pam_pkcs11") && main == nil:
			main = it.Block
			if it.Key.Glued {
				b.Note(it.Key, finding.NoteDifferent, "a blank before { is missing: the C module could not read this file")
			}
		case scconf.SameKey(it.Key.Text, "pam_pkcs11"):
			b.refuse(it.Key, "a second block pam_pkcs11", "only one is read: put the settings together")
		case near:
			b.refuse(it.Key, "unknown block "+finding.Quote(it.Key.Text), "did you mean pam_pkcs11?")
		default:
			b.Note(it.Key, finding.NoteNoEffect, "the block "+finding.Quote(it.Key.Text)+" is not read")
		}
	}
	if main == nil && len(*b.errs) == 0 {
		b.errs.Add(&finding.Error{File: b.File, Text: "there is no block pam_pkcs11 { }"})
	}
	return main
}

func over(file bool, argument *bool) bool {
	if argument != nil {
		return *argument
	}
	return file
}

func (b *builder) buildGlobal() Global {
	v, a := b.global, b.args
	return Global{
		NullOK: over(v.Bool("nullok"), a.NullOK), Debug: over(v.Bool("debug"), a.Debug), Quiet: over(v.Bool("quiet"), a.Quiet),
		ErrDisplayTime: v.Duration("err_display_time"),
		UseFirstPass:   over(v.Bool("use_first_pass"), a.UseFirstPass), TryFirstPass: over(v.Bool("try_first_pass"), a.TryFirstPass),
		CardOnly: over(v.Bool("card_only"), a.CardOnly), WaitForCard: over(v.Bool("wait_for_card"), a.WaitForCard),
		WaitForCardTimeout: v.Duration("wait_for_card_timeout"), ScreenSavers: v.List("screen_savers"),
		StrictPermissions: v.Bool("strict_permissions"), ForeignCard: v.String("foreign_card"), CertificatesAfterPIN: v.String("certificates_after_pin"),
		AskCertificate: v.Bool("ask_certificate"), RequirePIN: v.Bool("require_pin"),
		PINPattern: v.Pattern("pin_pattern"), EmptyPIN: v.String("empty_pin"), ForwardPIN: v.String("forward_pin"),
		RemoteLogin: v.String("remote_login"), RemoteLoginHides: v.Bool("remote_login_hides"),
		LoopbackIsLocal: v.Bool("loopback_is_local"),
		UnverifiedNames: v.Bool("unverified_names"), AllowUnknownUser: v.Bool("allow_unknown_user"),
		DirectoryMayNameSystemAccounts: v.Bool("directory_may_name_system_accounts"),
		VerifyTimeout:                  v.Duration("verify_timeout"),
	}
}

// checkHiding: a card that is skipped, and so not asked for, would tell whose it is not.
func (b *builder) checkHiding() {
	g, at := b.conf.Global, b.global.Get("remote_login_hides").At
	switch {
	case !g.RemoteLoginHides:
	case g.ForeignCard != "refuse":
		b.refuse(at, "remote_login_hides = true contradicts foreign_card = "+g.ForeignCard,
			"write foreign_card = refuse, or leave remote_login_hides out")
	case g.RemoteLogin != "allow":
		b.Note(at, finding.NoteNoEffect, "remote_login_hides does nothing without remote_login = allow")
	}
}

// selectedModule is the name of the block to use, and the library that an argument put in its place.
func (b *builder) selectedModule() (name, library string, at scconf.Word) {
	name, at = b.global.String("use_pkcs11_module"), b.global.Get("use_pkcs11_module").At
	if x := b.args.PKCS11Module; strings.Contains(x, "/") {
		library = x
	} else if x != "" {
		name, at = x, scconf.Word{}
	}
	return name, library, at
}

func (b *builder) buildModule(main *scconf.Block) {
	name, library, at := b.selectedModule()
	var selected *scconf.Item
	var names []string
	for _, it := range main.Items {
		if it.Block == nil || !scconf.SameKey(it.Key.Text, "pkcs11_module") {
			continue
		}
		b.severalNames(it)
		names = append(names, it.Name())
		switch {
		case !scconf.SameKey(it.Name(), name):
			b.Aside().Read(it.Block, &schema.Module)
		case selected != nil:
			b.Note(it.Key, finding.NoteTolerated, "a second block pkcs11_module "+it.Name()+" is not read")
		default:
			selected = it
		}
	}
	block := &scconf.Block{}
	if selected != nil {
		block = selected.Block
		b.conf.Module.Name = selected.Name()
	} else if library == "" {
		b.refuse(at, "there is no block pkcs11_module "+name, finding.DidYouMean(name, names))
		return
	}
	b.module = b.Read(block, &schema.Module)
	b.fillModule(b.module, block, library)
}

func (b *builder) severalNames(it *scconf.Item) {
	if len(it.Names) > 1 {
		b.Note(it.Names[1], finding.NoteTolerated, "a block has one name; "+finding.Quote(it.Names[1].Text)+" is not read")
	}
	last := it.Key
	if len(it.Names) > 0 {
		last = it.Names[len(it.Names)-1]
	} else {
		b.Note(it.Key, finding.NoteTolerated, it.Key.Text+" has no name, so nothing can use it")
	}
	if last.Glued && !last.Quoted {
		b.Note(last, finding.NoteDifferent, "a blank before { is missing: the C module could not read this file")
	}
}

func text(file string, argument *string) string {
	if argument != nil {
		return *argument
	}
	return file
}

func (b *builder) fillModule(v schema.Values, block *scconf.Block, library string) {
	m, a := &b.conf.Module, b.args
	m.Path = v.String("module")
	if library != "" {
		m.Path = library
	}
	if !path.IsAbs(m.Path) {
		b.Note(v.Get("module").At, finding.NoteDifferent, "module = "+m.Path+" is not an absolute path")
	}
	m.Description = description(block)
	m.TokenType = text(v.String("token_type"), a.TokenType)
	m.SlotDescription = text(v.String("slot_description"), a.SlotDescription)
	m.SlotNum = v.Int("slot_num")
	if a.SlotNum != nil {
		m.SlotNum = *a.SlotNum
	}
	m.TokenLabel, m.TokenURI = v.String("token_label"), v.String("token_uri")
	m.SupportThreads = v.Bool("support_threads")
	m.CADir, m.CRLDir = text(v.String("ca_dir"), a.CADir), text(v.String("crl_dir"), a.CRLDir)
	m.Environment = v.List("environment")
	m.EKU = EKU{Required: v.List("eku")}
	if v.String("eku") == "ignore" {
		m.EKU = EKU{Ignore: true}
	}
	if m.SlotNum != 0 && m.SlotDescription != "" {
		at := v.Get("slot_num").At
		if !v.Set("slot_num") {
			at = v.Get("slot_description").At
		}
		b.refuse(at, fmt.Sprintf("slot_num = %d contradicts slot_description", m.SlotNum), "use one of them")
	}
	b.fillPolicy(v)
	b.fillChain(v)
	b.fillCRL(v)
	b.fillOCSP(v)
}

// description is read though it has no effect: lists of modules show it.
func description(block *scconf.Block) string {
	for _, it := range block.Items {
		if it.Block == nil && scconf.SameKey(it.Key.Text, "description") && len(it.Values) > 0 {
			return it.Values[0].Text
		}
	}
	return ""
}

func (b *builder) fillPolicy(v schema.Values) {
	words := v.Get("cert_policy")
	p, problem := newPolicy(words.Texts)
	if problem != "" {
		b.refuse(words.At, problem, "")
		return
	}
	if p, problem = p.withArgument(b.args.CertPolicy); problem != "" {
		b.errs.Add(&finding.Error{File: argumentsFile, Text: problem})
		return
	}
	if problem := p.problem(); problem != "" {
		b.refuse(words.At, problem, "add ca, or leave the other word out")
		return
	}
	b.conf.Module.Policy = p
}
