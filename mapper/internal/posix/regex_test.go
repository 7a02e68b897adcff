package posix

import (
	"testing"
)

func FuzzBasicExpression(f *testing.F) {
	for _, e := range []string{`a*`, `\(a\|b\)`, `[[:alpha:]]`, `\{1,2\}`, `^*`, `[]a]`, `[^]a]`, `\1`, `a\{2\}b`, `\w\+\s\bx\'`, `\<a\>\@`, `\b*`} {
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, e string) {
		_, _ = Compile(e, Basic, false)
		_, _ = Compile(e, Extended, true)
	})
}
