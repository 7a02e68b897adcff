package config

import (
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// builder makes a Config of a tree.
type builder struct {
	*schema.Reader
	errs   *finding.Errors
	args   *Arguments
	conf   *Config
	global schema.Values // as written, without the arguments
	module schema.Values // the block under work, which conf.Module is made of
}

// build reads the whole tree, the blocks that are not in use for their notes.
func build(
	file string, root *scconf.Block, args *Arguments, errs *finding.Errors, notes *[]finding.Note,
) *builder {
	b := &builder{
		Reader: schema.NewReader(file, errs, notes),
		errs:   errs,
		args:   args,
		conf:   &Config{File: file, arguments: args},
	}

	main := b.mainBlock(root)
	if main == nil {
		// conf and errs stay: the caller finds there why nothing was built.
		return b
	}

	b.global = b.Read(main, &schema.Global, "pkcs11_module", "mapper", "service")
	b.conf.Global = b.buildGlobal()
	b.conf.global = b.global

	b.checkHiding()

	// The order matters: fillLDAPServers takes the servers of the mappers in use, and the blocks of
	// services are compared with the finished rest of the file.
	b.buildModules(main)
	b.buildMappers(main)
	b.fillLDAPServers()
	b.refuseLooserBlocks()
	b.buildServices(main)
	b.checkEnrolled()

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
			b.Note(it.Key, finding.NoteNoEffect, finding.Quote(it.Key.Text)+
				" stands outside the block pam_pkcs11 and is not read")
		case scconf.SameKey(it.Key.Text, "pam_pkcs11") && main == nil:
			main = it.Block
			if it.Key.Glued {
				b.Note(it.Key, finding.NoteDifferent,
					"a blank before { is missing: the C module could not read this file")
			}
		case scconf.SameKey(it.Key.Text, "pam_pkcs11"):
			b.refuse(it.Key, "a second block pam_pkcs11",
				"only one is read: put the settings together")
		// Not only noted: what it holds was meant for the block pam_pkcs11.
		case near:
			b.refuse(it.Key, "unknown block "+finding.Quote(it.Key.Text),
				"did you mean pam_pkcs11?")
		default:
			b.Note(it.Key, finding.NoteNoEffect, "the block "+finding.Quote(it.Key.Text)+
				" is not read")
		}
	}

	// Only where nothing else is wrong: a slip in the name of the block is the better reason.
	if main == nil && len(*b.errs) == 0 {
		b.errs.Add(&finding.Error{File: b.File, Text: "there is no block pam_pkcs11 { }"})
	}
	return main
}

// over is the value of the file, or of the argument where that was given.
func over(file bool, argument *bool) bool {
	if argument != nil {
		return *argument
	}
	return file
}

// foreignCard is skip where the argument skip_foreign stands.
func foreignCard(file string, a *Arguments) string {
	if a.SkipForeign != nil {
		return "skip"
	}
	return file
}

// personsOf are those of the block pam_pkcs11.
func personsOf(v schema.Values) Persons {
	people := func(key string) People {
		return People{Users: v.List(key + "_users"), Groups: v.List(key + "_groups")}
	}
	return Persons{
		Required:  people("card_required"),
		Optional:  people("card_optional"),
		Forbidden: people("card_forbidden"),
		Others:    v.String("card_others"),
	}
}

func (b *builder) buildGlobal() Global {
	v, a := b.global, b.args
	return Global{
		NullOK:                         over(v.Bool("nullok"), a.NullOK),
		Debug:                          over(v.Bool("debug"), a.Debug),
		Quiet:                          over(v.Bool("quiet"), a.Quiet),
		ErrDisplayTime:                 v.Duration("err_display_time"),
		UseFirstPass:                   over(v.Bool("use_first_pass"), a.UseFirstPass),
		TryFirstPass:                   over(v.Bool("try_first_pass"), a.TryFirstPass),
		CardOnly:                       over(v.Bool("card_only"), a.CardOnly),
		WaitForCard:                    over(v.Bool("wait_for_card"), a.WaitForCard),
		WaitForCardTimeout:             v.Duration("wait_for_card_timeout"),
		ScreenSavers:                   v.List("screen_savers"),
		StrictPermissions:              v.Bool("strict_permissions"),
		ForeignCard:                    foreignCard(v.String("foreign_card"), a),
		CertificatesAfterPIN:           v.String("certificates_after_pin"),
		AskCertificate:                 v.Bool("ask_certificate"),
		RequirePIN:                     v.Bool("require_pin"),
		PINPattern:                     v.Pattern("pin_pattern"),
		EmptyPIN:                       text(v.String("empty_pin"), a.EmptyPIN),
		ForwardPIN:                     v.String("forward_pin"),
		RemoteLogin:                    v.String("remote_login"),
		RemoteLoginHides:               v.Bool("remote_login_hides"),
		LoopbackIsLocal:                v.Bool("loopback_is_local"),
		UnverifiedNames:                v.Bool("unverified_names"),
		AllowUnknownUser:               v.Bool("allow_unknown_user"),
		DirectoryMayNameSystemAccounts: v.Bool("directory_may_name_system_accounts"),
		EnrolledFile:                   v.String("enrolled_file"),
		EnrolledExpiry:                 v.String("enrolled_expiry"),
		EnrolledRoot:                   v.Bool("enrolled_root"),
		VerifyTimeout:                  v.Duration("verify_timeout"),
		MetricsFile:                    v.String("metrics_file"),
		Persons:                        personsOf(v),
	}
}

// checkHiding refuses remote_login_hides where something else shows whose card it is: a card that
// is skipped, and so not asked for its PIN, would tell whose it is not.
func (b *builder) checkHiding() {
	g := b.conf.Global
	at := b.global.Get("remote_login_hides").At

	switch {
	case !g.RemoteLoginHides:
	case b.conf.hidingProblem() != "":
		b.refuse(at, b.conf.hidingProblem(),
			"write foreign_card = refuse without lists of card_optional, or leave remote_login_hides out")
	case g.RemoteLogin != "allow":
		b.Note(at, finding.NoteNoEffect,
			"remote_login_hides does nothing without remote_login = allow")
	}
}

// hidingProblem is what makes remote_login_hides impossible; "" when nothing does.
func (c *Config) hidingProblem() string {
	switch g := c.Global; {
	case g.ForeignCard != "refuse":
		return "remote_login_hides = true contradicts foreign_card = " + g.ForeignCard
	case g.Persons.allows():
		return "remote_login_hides = true contradicts card_optional_users, card_optional_groups and card_others = optional"
	}
	return ""
}
