package config

import (
	"slices"
	"strings"

	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
)

// difference is a place where the same file leads to another login than with pam_pkcs11 0.6.12 and
// 0.6.13, or than with earlier versions of this program. The table in doc/original.md has the same
// rows with the reasons.
type difference struct {
	applies func(*builder) bool
	at      func(*builder) scconf.Word // nil: the whole file
	text    string
	restore string // what to write for the old behaviour; "" when there is no such key
	changed bool   // different from earlier versions of this program too
	general bool   // changed, and so for any file of its kind
}

func (d difference) kind() finding.NoteKind {
	switch {
	case d.general:
		return finding.NoteGeneral
	case d.changed:
		return finding.NoteChanged
	}
	return finding.NoteDifferent
}

func notWritten(key string) func(*builder) bool {
	return func(b *builder) bool { return !b.global.Set(key) }
}

func globalAt(key string) func(*builder) scconf.Word {
	return func(b *builder) scconf.Word { return b.global.Get(key).At }
}

func policyAt(b *builder) scconf.Word { return b.module.Get("cert_policy").At }

var differenceTable = []difference{
	{
		applies: func(b *builder) bool { return len(b.conf.Modules) > 1 },
		at:      globalAt("use_pkcs11_module"),
		text:    "each block that use_pkcs11_module names is used, in this order; only the first one was",
		restore: "use_pkcs11_module = NAME; (the first one alone)",
	}, {
		applies: func(b *builder) bool { return !b.module.Set("cert_policy") },
		text:    "cert_policy is not set: now that means `ca, signature`; it meant no check of the issuer and of the dates",
		restore: "cert_policy = none; and unverified_names = true;",
	}, {
		applies: func(b *builder) bool {
			return b.module.Set("cert_policy") && !b.conf.Module.Policy.CA &&
				!b.conf.Global.UnverifiedNames && len(b.textMappers()) > 0
		},
		at:      policyAt,
		text:    "without `ca`, mappers that go by a text of the certificate say no, because anybody can make a certificate with any text",
		restore: "unverified_names = true;",
	}, {
		applies: func(b *builder) bool { return b.conf.Module.Policy.OCSP },
		at:      policyAt,
		text:    "ocsp_on is obeyed: builds with OpenSSL (Debian, Ubuntu) never asked a responder",
		restore: "cert_policy without ocsp_on; revocation = soft; to go on where no responder answers",
	}, {
		applies: func(b *builder) bool { return b.conf.Module.SoftRevocation },
		at:      func(b *builder) scconf.Word { return b.module.Get("revocation").At },
		text: "revocation = soft passes over silence only: \"unknown\" of the authority's own responder, and answers and lists " +
			"with a wrong signature, refuse; earlier versions of this program passed over them",
		changed: true,
	}, {
		applies: func(b *builder) bool { return b.conf.Module.Policy.CRL != "" },
		at:      policyAt,
		text:    "revocation is checked for the whole chain, not only for the user's certificate",
		restore: "crl_scope = leaf;",
	}, {
		applies: func(b *builder) bool { return !b.module.Set("eku") },
		text:    "a certificate with an extended key usage must allow clientAuth, smartcardLogon or any; this was not looked at",
		restore: "eku = ignore;",
	}, {
		applies: notWritten("remote_login"),
		text:    "logins from other hosts (PAM_RHOST, a remote logind session, DISPLAY) are refused; only DISPLAY was looked at",
		restore: "remote_login = allow;",
	}, {
		applies: func(b *builder) bool { return b.skips() },
		at:      globalAt("foreign_card"),
		text: "a card that says nothing about the user lets the stack go on to another module without a word, one with a locked PIN after its message; " +
			"no PIN is asked for on its last try, nor before it is known whose the card is",
		restore: "foreign_card = refuse;",
		changed: true,
	}, {
		applies: func(b *builder) bool {
			return b.skips() &&
				!b.global.Set("certificates_after_pin")
		},
		at:      globalAt("foreign_card"),
		text:    "a token that shows no certificate before its PIN is not asked for it",
		restore: "certificates_after_pin = yes;",
		changed: true,
	}, {
		applies: notWritten("forward_pin"),
		text:    "the PIN is not left in PAM_AUTHTOK: later modules with try_first_pass or use_first_pass (pam_unix, pam_gnome_keyring) do not get it",
		restore: "forward_pin = success;",
	}, {
		applies: func(b *builder) bool {
			return (b.conf.Global.TryFirstPass || b.conf.Global.UseFirstPass) &&
				!b.global.Set("pin_pattern")
		},
		at: func(b *builder) scconf.Word { return firstPassAt(b) },
		text: "what an earlier module left is sent to the token only where pin_pattern is set and matches, its length fits " +
			"and the token tells of no wrong PIN since the last right one; without pin_pattern try_first_pass asks and use_first_pass refuses",
		restore: "pin_pattern = \"[0-9]+\"; (the form that the PINs of these cards have)",
		changed: true,
	}, {
		applies: func(b *builder) bool {
			return b.conf.Global.TryFirstPass && !b.conf.Global.UseFirstPass
		},
		at:      globalAt("try_first_pass"),
		text:    "after a wrong secret of an earlier module the user is asked once; the login was refused",
		restore: "use_first_pass = true; (which never asks)",
		changed: true,
	}, {
		applies: func(b *builder) bool { return b.conf.Global.NullOK },
		at:      globalAt("nullok"),
		text:    "an empty PIN is sent only to a token whose minimum PIN length is 0 and that has no PIN pad",
	}, {
		applies: func(b *builder) bool {
			return b.conf.Global.CardOnly && b.conf.Global.WaitForCard &&
				!b.global.Set("wait_for_card_timeout")
		},
		at:      globalAt("wait_for_card"),
		text:    "the wait for a card ends after 60 s; it had no end",
		restore: "wait_for_card_timeout = 600; (the longest wait)",
	}, {
		applies: notWritten("require_pin"),
		text:    "a token that needs no PIN is asked for one all the same, and refused when it cannot verify it; it logged in without",
		restore: "require_pin = false;",
	}, {
		applies: notWritten("ask_certificate"),
		text:    "where certificates of several users would do, the user is asked for the one to use; the first was taken",
		restore: "ask_certificate = false;",
	}, {
		applies: notWritten("allow_unknown_user"),
		text:    "a login that this system does not know is refused",
		restore: "allow_unknown_user = true;",
	}, {
		applies: func(b *builder) bool { return len(b.unlistedMappers()) > 0 },
		at:      globalAt("use_mappers"),
		text:    "accounts below UID_MIN, root among them, log in only by a line of a mapfile or by their own key file",
		restore: "a mapfile; for ldap directory_may_name_system_accounts = true;",
	}, {
		applies: func(b *builder) bool {
			return slices.ContainsFunc(b.conf.Mappers,
				func(m Mapper) bool { return m.Type == "ldap" && !m.Values.Set("ssl") })
		},
		at:      globalAt("use_mappers"),
		text:    "a directory on another machine is asked over TLS, with its certificate checked; without ssl it was asked in the clear",
		restore: "ssl = off;",
	},
}

// skips reports whether a card that is not the user's leaves the login to the rest of the stack.
func (b *builder) skips() bool {
	return b.conf.Global.ForeignCard == "skip" && !b.conf.Global.CardOnly
}

func firstPassAt(b *builder) scconf.Word {
	if b.global.Bool("use_first_pass") {
		return b.global.Get("use_first_pass").At
	}
	return b.global.Get("try_first_pass").At
}

// differences goes through the table for each block in use, then through the mappers in use.
func (b *builder) differences() []finding.Note {
	var notes []finding.Note
	for i := range b.conf.Modules {
		b.selectBlock(i)
		// A row without a place in the block is the same for each of them.
		for _, n := range b.blockDifferences() {
			if !slices.Contains(notes, n) {
				notes = append(notes, n)
			}
		}
	}
	b.selectBlock(0)

	for _, m := range b.conf.Mappers {
		notes = append(notes, b.loginNotes(m)...)
		notes = append(notes, b.mapperDifferences(m)...)
		if mapfileOf(m) == "" {
			continue
		}

		at := m.Values.Get("mapfile").At
		notes = append(notes, finding.Note{
			File: b.File,
			Line: at.Line,
			Col:  at.Col,
			Kind: finding.NoteDifferent,
			Text: "mapper " + m.Name +
				": the mapfile lists all who may log in; a text that it does not list was compared with the login itself",
		},
			finding.Note{
				File: b.File,
				Line: at.Line,
				Col:  at.Col,
				Kind: finding.NoteDifferent,
				Text: "mapper " + m.Name +
					": of several lines that fit a certificate all count, and without a user name the user is asked which account is meant; the first line counted",
			})
	}
	return notes
}

// blockDifferences goes through the table for the block under work.
func (b *builder) blockDifferences() []finding.Note {
	var notes []finding.Note
	for _, d := range slices.Concat(differenceTable, listDifferences, generalDifferences) {
		if !d.applies(b) {
			continue
		}

		var at scconf.Word
		if d.at != nil {
			at = d.at(b)
		}

		notes = append(notes, finding.Note{
			File:    b.File,
			Line:    at.Line,
			Col:     at.Col,
			Kind:    d.kind(),
			Text:    d.text,
			Restore: d.restore,
		})
	}
	return notes
}

// exactMappers compare the whole certificate or its key.
var exactMappers = []string{"digest", "enrolled", "openssh", "opensc"}

func (b *builder) textMappers() []string {
	var names []string
	for _, m := range b.conf.Mappers {
		if !slices.Contains(exactMappers, m.Type) {
			names = append(names, m.Name)
		}
	}
	return names
}

// unlistedMappers need neither a mapfile nor the user's own file.
func (b *builder) unlistedMappers() []string {
	var names []string
	for _, m := range b.conf.Mappers {
		if mapfileOf(m) == "" && !strings.HasPrefix(m.Type, "open") && m.Type != "enrolled" {
			names = append(names, m.Name)
		}
	}
	return names
}
