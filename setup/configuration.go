package setup

import (
	"errors"
	"fmt"
	"strings"

	"pam_pkcs11/doctor"
)

// header begins each configuration that setup writes.
const header = "# Written by pam-pkcs11 setup. pam_pkcs11.conf(5) tells what each key means.\n"

// settings are what a configuration is made of.
type settings struct {
	Mode    doctor.Mode
	Library string // "" is the built-in card
	Mapper  string
	Options []string // KEY=VALUE of the mapper's block
}

// text is the configuration file. pin_pattern keeps passwords that are typed at the wrong prompt,
// and those of lockers with one field, from the card.
func (s *settings) text() ([]byte, error) {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }

	block := "builtin"
	if s.Library != "" {
		block = "library"
	}

	if !isWord(s.Mapper) || !quotable(s.Library) {
		return nil, fmt.Errorf("the mapper %q or the library %q cannot stand in a configuration",
			s.Mapper, s.Library)
	}

	b.WriteString(header)
	line("pam_pkcs11 {")
	line("  use_pkcs11_module = %s;", block)
	line("  use_mappers = %s;", s.Mapper)
	line("  foreign_card = skip;")
	line("  pin_pattern = \"[0-9]+\";")
	if s.Mode == doctor.ModePassword {
		line("  empty_pin = fallback;")
	}

	line("")
	line("  pkcs11_module %s {", block)
	if s.Library != "" {
		line("    module = %s;", quoted(s.Library))
	}
	line("    ca_dir = %s;", caDir)
	line("    crl_dir = %s;", crlDir)
	line("    cert_policy = ca, signature;")
	line("  }")

	if len(s.Options) > 0 {
		line("")
		line("  mapper %s {", s.Mapper)
		for _, o := range s.Options {
			key, value, found := strings.Cut(o, "=")
			if !found || !isWord(key) || !quotable(value) {
				return nil, fmt.Errorf("%q is not KEY=VALUE", o)
			}
			if key == "passwd" {
				return nil,
					errors.New("everybody can read the configuration and the arguments of a program: " +
						"put the password into a file of root's, mode 0600, and give passwd_file=FILE instead of passwd")
			}
			line("    %s = %s;", key, quoted(value))
		}
		line("  }")
	}

	line("}")
	return []byte(b.String()), nil
}

// quoted is a word of the configuration's grammar, which knows no escapes.
func quoted(s string) string { return `"` + s + `"` }

// quotable reports whether a text can be a word in quotation marks.
func quotable(s string) bool { return !strings.ContainsAny(s, "\"\n\r\x00") }

// isWord reports whether a text is the name of a key or of a mapper.
func isWord(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
