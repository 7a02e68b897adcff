package pamstack

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestCrashes: what ends the program that asks, or holds it for ever, is refused and said.
func TestCrashes(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"itself":            {"auth required pam_unix.so\nauth include s\n", "/etc/pam.d/s:2: libpam crashes: the file /etc/pam.d/s includes itself"},
		"through another":   {"@include again\n", "/etc/pam.d/again:1: libpam crashes: the file /etc/pam.d/s includes itself"},
		"no name, included": {"@include nameless\n", "/etc/pam.d/nameless:1: libpam crashes: the line includes, and names no file"},
		"a backslash":       {"auth " + strings.Repeat("x", 1022-5) + "\\\n", "/etc/pam.d/s:1: libpam waits for ever: the 1023rd byte of this line is a backslash"},
	} {
		root := machine(t, map[string]string{"s": test.text, "again": "@include s\n", "nameless": "auth include\n"})
		_, err := Load(root, "s")
		var refused *Refused
		if !errors.As(err, &refused) || !refused.Crashes || !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTooManyLines: files that include each other several times come to an end.
func TestTooManyLines(t *testing.T) {
	files := map[string]string{"s": "@include 0\n"}
	for i := range 9 {
		next := string(rune('1' + i))
		files[string(rune('0'+i))] = strings.Repeat("@include "+next+"\n", 9)
	}
	files["9"] = "auth required pam_unix.so\n"
	if _, err := Load(machine(t, files), "s"); err == nil || !strings.Contains(err.Error(), "more than 4096 lines") {
		t.Error(err)
	}

	// Substacks of itself end by their depth.
	root := machine(t, map[string]string{"s": "auth required pam_unix.so\nauth substack s\n"})
	if lines := load(t, root, "s").Lines(Auth); len(lines) != 17 || lines[16].Broken.Empty() || lines[16].Level != 15 {
		t.Error(len(lines), lines)
	}
}

// TestProblems: what PAM reads otherwise than it looks is told with its place.
func TestProblems(t *testing.T) {
	for id, text := range map[string]string{
		"pam-line-long":      "auth required pam_unix.so " + strings.Repeat(" ", 1100) + "auth required pam_deny.so\n",
		"pam-line-nul":       "auth required pam_unix.so\x00\n",
		"pam-line-crlf":      "auth required pam_unix.so\r\n",
		"pam-line-type":      "aut required pam_unix.so\n",
		"pam-line-control":   "auth suficient pam_unix.so\n",
		"pam-line-module":    "auth required\n",
		"pam-include":        "auth include missing\n",
		"pam-include-chance": "auth include part\n",
	} {
		root := machine(t, map[string]string{"s": text, "part": "@include missing\nauth required pam_unix.so\n"})
		problems := load(t, root, "s").Problems
		if !slices.ContainsFunc(problems, func(p Problem) bool { return p.ID == id && p.Number == 1 }) {
			t.Errorf("%s: %v", id, problems)
		}
	}
}

// TestOriginal: where libpam is not Debian's, included files may be the vendor's, and @include is no type.
func TestOriginal(t *testing.T) {
	files := map[string]string{
		"etc/os-release":               "NAME=Fedora\nID=fedora\n",
		"usr/lib/pam.d/sudo":           "auth include system-auth\n",
		"usr/lib/pam.d/system-auth":    "auth required pam_unix.so\n",
		"etc/pam.d/login":              "@include system-auth\nauth include\n",
		"usr/lib/pam.d/empty.rpmnew":   "",
		"usr/lib/pam.d/password-auth":  "",
		"usr/lib/pam.d/gdm-smartcard":  "",
		"usr/lib/pam.d/Uppercase":      "",
		"usr/lib/pam.d/directory/file": "",
	}
	root := machine(t, files)
	if got := shown(load(t, root, "sudo"), Auth); got != "/usr/lib/pam.d/system-auth:1 auth required pam_unix.so\n" {
		t.Error(got)
	}
	if lines := load(t, root, "login").Lines(Auth); len(lines) != 2 || lines[0].Broken.Empty() || lines[1].Broken.Empty() {
		t.Error(lines)
	}
	if names, err := Services(root); err != nil || !slices.Equal(names, []string{"gdm-smartcard", "login", "sudo"}) {
		t.Error(names, err)
	}

	files["etc/os-release"] = "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"
	if lines := load(t, machine(t, files), "sudo").Lines(Auth); len(lines) != 1 || lines[0].Broken.Empty() {
		t.Error(lines)
	}
}

// TestOneFile: without a directory, /etc/pam.conf has all services.
func TestOneFile(t *testing.T) {
	root := machine(t, map[string]string{
		"etc/pam.conf": "sudo auth required pam_unix.so\nlogin auth required pam_deny.so\nOTHER account required pam_deny.so\n",
	})
	stack := load(t, root, "sudo")
	if got := shown(stack, Auth) + shown(stack, Account); got != "/etc/pam.conf:1 auth required pam_unix.so\n/etc/pam.conf:3 account required pam_deny.so\n" {
		t.Error(got)
	}
}

// TestWays: all courses of a stack are seen, each once.
func TestWays(t *testing.T) {
	root := machine(t, map[string]string{"common-auth": commonAuth, "s": "auth requisite pam_x.so\n@include common-auth\n"})
	stack := load(t, root, "s")
	answers := Answers{
		"pam_pkcs11.so":                     {Success, AuthinfoUnavail},
		"pam_unix.so nullok try_first_pass": {Success, AuthErr},
		"pam_unix.so":                       {Abort},
		"pam_deny.so":                       {AuthErr},
		"pam_permit.so":                     {Success},
	}
	ways, complete := stack.Ways(Auth, answers.Of)

	// pam_x.so says yes or nothing: by card, by password, by neither. It says no: the end.
	if !complete || len(ways) != 3+1+3 {
		t.Errorf("%d ways", len(ways))
	}
	if in := Successes(ways); len(in) != 2+2 {
		t.Errorf("%d let somebody in", len(in))
	}
	if _, complete := load(t, machine(t, map[string]string{"s": strings.Repeat("auth required pam_x.so\n", 15)}), "s").Ways(Auth, Answers{}.Of); complete {
		t.Error("15 unknown modules were looked at")
	}
}

// TestLinksStayInTheRoot: the links of a machine's files lead to where they would lead on that machine.
func TestLinksStayInTheRoot(t *testing.T) {
	root := machine(t, map[string]string{"etc/authselect/system-auth": "auth required pam_x.so\n"})
	link(t, root, "/etc/authselect/system-auth", "etc/pam.d/system-auth")
	link(t, root, "../../../../../etc/pam.d/system-auth", "etc/pam.d/sudo")
	link(t, root, "loop", "etc/pam.d/loop")
	if got := shown(load(t, root, "sudo"), Auth); got != "/etc/pam.d/sudo:1 auth required pam_x.so\n" {
		t.Error(got)
	}
	if _, err := Load(root, "loop"); err == nil {
		t.Error("a link to itself")
	}
}

// FuzzLoad: no file makes the reader or the evaluator fail otherwise than with an error.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(commonAuth), []byte("@include s\n"))
	f.Add([]byte("auth substack part\nauth [success=1 default=ignore] pam_x.so [a\\]b]\n"), []byte("auth [success=2 ignore=reset] x\r\n"))
	f.Add([]byte("auth include part \\\n"), []byte("\x00"))

	f.Fuzz(func(t *testing.T, service, part []byte) {
		stack, err := Load(machine(t, map[string]string{"s": string(service), "part": string(part)}), "s")
		if err != nil {
			return
		}
		for _, k := range Kinds() {
			out := stack.Run(k, func(l Line) Result { return Result(len(l.Args) % resultCount) })
			if len(out.Path) > len(stack.Lines(k)) {
				t.Fatalf("%d lines, %d steps", len(stack.Lines(k)), len(out.Path))
			}
			stack.RunAgain(k, out, func(Line) Result { return Success })
			if out.Result == Success && len(out.Path) == 0 {
				t.Fatal("in without a module")
			}
		}
	})
}
