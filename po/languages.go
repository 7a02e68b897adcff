package po

//go:generate make -C .. pot

import "strings"

// maxLanguages bounds the list that a caller's LANGUAGE can ask for.
const maxLanguages = 16

// Languages returns the languages that an environment asks for, best first, by the rules of
// gettext: the locale is the first of LC_ALL, LC_MESSAGES and LANG that is set; unless it is "C" or
// "POSIX", LANGUAGE (a list separated by colons) goes before it. Encoding and modifier are cut off
// ("it_IT.UTF-8@euro" gives "it_IT"), and names that are not made of letters, digits, "_" and "-"
// are left out. The answer may be empty.
func Languages(env func(string) string) []string {
	locale := ""
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if locale = env(name); locale != "" {
			break
		}
	}
	if locale == "" || locale == "C" || locale == "POSIX" {
		return nil
	}

	var languages []string
	for _, entry := range append(strings.Split(env("LANGUAGE"), ":"), locale) {
		if name := languageName(entry); name != "" && len(languages) < maxLanguages {
			languages = append(languages, name)
		}
	}
	return languages
}

// languageName cuts encoding and modifier off a locale's name; "" when what is left is no language.
func languageName(locale string) string {
	name := locale
	if i := strings.IndexAny(name, ".@"); i >= 0 {
		name = name[:i]
	}

	if len(name) > 32 {
		return ""
	}
	for _, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		if !letter && !(r >= '0' && r <= '9') && r != '_' && r != '-' {
			return ""
		}
	}
	return name
}

// isEnglish reports whether the message ids themselves are what a language asks for.
func isEnglish(language string) bool {
	base, _, _ := strings.Cut(language, "_")
	return base == "en" || base == "C" || base == "POSIX"
}

// fallbacks returns the names under which the catalogue of a language may stand, best first.
func fallbacks(language string) []string {
	language = languageName(language)
	if language == "" {
		return nil
	}
	if base, _, found := strings.Cut(language, "_"); found {
		return []string{language, base}
	}
	return []string{language}
}
