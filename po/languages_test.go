package po

import (
	"slices"
	"strings"
	"testing"
)

func TestLanguages(t *testing.T) {
	tests := map[string]struct {
		env  map[string]string
		want []string
	}{
		"nothing set":                      {nil, nil},
		"LANG alone":                       {map[string]string{"LANG": "it_IT.UTF-8"}, []string{"it_IT"}},
		"with a modifier":                  {map[string]string{"LANG": "it_IT@euro"}, []string{"it_IT"}},
		"LC_MESSAGES before LANG":          {map[string]string{"LANG": "de_DE", "LC_MESSAGES": "it_IT"}, []string{"it_IT"}},
		"LC_ALL before everything":         {map[string]string{"LANG": "de_DE", "LC_MESSAGES": "fr_FR", "LC_ALL": "it_IT"}, []string{"it_IT"}},
		"LANGUAGE before the locale":       {map[string]string{"LANG": "de_DE", "LANGUAGE": "it:fr_CA"}, []string{"it", "fr_CA", "de_DE"}},
		"LANGUAGE does not count with C":   {map[string]string{"LANG": "C", "LANGUAGE": "it"}, nil},
		"LANGUAGE does not count alone":    {map[string]string{"LANGUAGE": "it"}, nil},
		"LC_ALL = C silences LANG":         {map[string]string{"LC_ALL": "C", "LANG": "it_IT"}, nil},
		"C with UTF-8 is English":          {map[string]string{"LANG": "C.UTF-8"}, []string{"C"}},
		"a path is no language":            {map[string]string{"LANG": "../../etc/passwd"}, nil},
		"a language with a path beside it": {map[string]string{"LANG": "it_IT", "LANGUAGE": "/x::../it:fr"}, []string{"fr", "it_IT"}},
		"a name that is far too long":      {map[string]string{"LANG": strings.Repeat("x", 33)}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Languages(func(name string) string { return tt.env[name] })
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestAListOfLanguagesIsBounded(t *testing.T) {
	env := map[string]string{"LANG": "it", "LANGUAGE": strings.Repeat("xx:", 100000)}
	if got := Languages(func(name string) string { return env[name] }); len(got) > maxLanguages {
		t.Errorf("%d languages", len(got))
	}
}
