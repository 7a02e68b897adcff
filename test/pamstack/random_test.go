//go:build linux && cgo

package pamstack

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pam_pkcs11/internal/pamstack"
)

// TestLikeLibpam: whatever stacks are made of, they end as with libpam.
func TestLikeLibpam(t *testing.T) {
	needRoot(t)

	rapid.Check(t, func(t *rapid.T) {
		// A file includes only those behind it. Of one that includes itself libpam makes as many lines as 2 to the
		// 16th, or opens it until it has no descriptor left.
		paths := []string{etc + "/one", etc + "/two", vendor + "/three", etc + "/a", etc + "/b", vendor + "/c", aside + "/d", etc + "/e"}
		files := map[string]string{etc + "/other": file(t, nil)}
		for i, path := range paths {
			files[path] = file(t, paths[max(i+1, 3):])
		}
		lay(t, files)
		for _, service := range []string{"one", "two", "three", "without-a-file"} {
			stack, err := pamstack.Load("", service)
			if refused := new(pamstack.Refused); errors.As(err, &refused) && !refused.Crashes || err == nil && comparable(stack) {
				compare(t, service)
			}
		}
	})
}

// file draws a file that may include others.
func file(t *rapid.T, others []string) string {
	var text strings.Builder
	for range rapid.IntRange(0, 7).Draw(t, "lines") {
		text.WriteString(line(t, others) + "\n")
	}
	return text.String()
}

// one draws one of several.
func one(t *rapid.T, of ...string) string { return rapid.SampledFrom(of).Draw(t, "one") }

// rarely is true in one of n cases.
func rarely(t *rapid.T, n int) bool { return rapid.IntRange(1, n).Draw(t, "rarely") == 1 }

// line draws a line, which may be no good one.
func line(t *rapid.T, others []string) string {
	if rarely(t, 12) {
		return one(t, "", "# auth required pam_deny.so", "auth", "auth required", "bogus required pam_permit.so", "-", "\tauth\trequired",
			"auth [success=1", "auth required [pam_permit.so]", "auth required pam_permit.so#", "auth required \\\n\n# and\n pam_permit.so",
			"auth required ../security/pam_permit.so", "auth requ\\\nired pam_permit.so", "auth [default=ok]pam_permit.so",
			"auth include no-such-file", "auth substack no-such-file", "account include no-such-file")
	}

	kind := one(t, "auth", "auth", "auth", "AUTH", "-auth", "account", "account", "session", "password")
	if len(others) > 0 && rarely(t, 3) {
		return include(t, kind, others)
	}
	return strings.Join([]string{kind, control(t), module(t)}, one(t, " ", "\t ", " \\\n "))
}

// include draws a line that includes a file.
func include(t *rapid.T, kind string, others []string) string {
	path := one(t, others...)
	if name := path[strings.LastIndexByte(path, '/')+1:]; !strings.HasPrefix(path, aside) && !rarely(t, 4) {
		path = name
	}

	switch how := one(t, "include", "substack", "substack", "@include", "@InClude"); {
	case how == "@include":
		return "@include " + path
	case how == "@InClude":
		return how + " " + path + " and more"
	default:
		return kind + " " + how + " " + path
	}
}

// control draws a control.
func control(t *rapid.T) string {
	switch {
	case rarely(t, 25):
		return one(t, "[success=0]", "[succes=ok]", "[success=okdefault=die]", "[ success = ok  default = die ]", "[default]", "[]", "bogus",
			"[success=4294967295 default=bad]", "[success=ok default=x]", "[[success=ok]", "[success=o\\]k]")
	case rarely(t, 2):
		return one(t, "required", "requisite", "optional", "sufficient", "Required")
	}

	var pairs []string
	for range rapid.IntRange(1, 4).Draw(t, "pairs") {
		pairs = append(pairs, result(t)+"="+action(t))
	}
	if !rarely(t, 3) {
		pairs = append(pairs, "default="+action(t))
	}
	return "[" + strings.Join(pairs, " ") + "]"
}

func action(t *rapid.T) string {
	return one(t, "ignore", "ignore", "ok", "ok", "done", "bad", "die", "reset", "1", "1", "2", "3", "7")
}

// result draws an answer, more often one that stacks are about.
func result(t *rapid.T) string {
	if rarely(t, 3) {
		return rapid.SampledFrom(pamstack.Results()).Draw(t, "result").String()
	}
	return one(t, "success", "success", "ignore", "auth_err", "perm_denied", "module_unknown", "new_authtok_reqd", "authinfo_unavail")
}

// module draws a module with what it answers. No module of PAM answers incomplete: the handle then waits for the
// same call again.
func module(t *rapid.T) string {
	if rarely(t, 4) {
		return one(t, "pam_permit.so", "pam_deny.so", "pam_no_such_module.so", "/no/such/directory/pam_permit.so")
	}
	var args []string
	for _, key := range []string{"auth", "cred", "acct", "open_session", "close_session"} {
		if said := result(t); said != "incomplete" {
			args = append(args, fmt.Sprintf("%s=%s", key, said))
		}
	}
	return "pam_debug.so " + strings.Join(args, " ")
}

// comparable reports whether libpam does the same each time, and within its time.
func comparable(stack *pamstack.Stack) bool {
	for _, problem := range stack.Problems {
		if problem.ID == "pam-include-chance" {
			return false
		}
	}
	count := 0
	for _, k := range pamstack.Kinds() {
		count += len(stack.Lines(k))
	}
	return count < 200
}
