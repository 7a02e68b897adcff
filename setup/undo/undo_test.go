package undo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stock = "# block\nauth\t[success=1 default=ignore]\tpam_unix.so nullok\nauth\trequisite\tpam_deny.so\n"
	with  = "# block\nauth\t[success=2 default=ignore]\tpam_pkcs11.so\n" +
		"auth\t[success=1 default=ignore]\tpam_unix.so nullok try_first_pass\nauth\trequisite\tpam_deny.so\n"

	commonAuth = "/etc/pam.d/common-auth"
	savedAuth  = "/var/lib/pam/auth"
	seen       = "/var/lib/pam/seen"
	answers    = "/var/cache/debconf/config.dat"
	confDir    = "/etc/pam_pkcs11"
	conf       = "/etc/pam_pkcs11/pam_pkcs11.conf"
	list       = "/etc/pam_pkcs11/enrolled"
	caLink     = "/etc/pam_pkcs11/cacerts/link.pem"
	caDir      = "/etc/pam_pkcs11/cacerts"
)

// paths are what the setups of these tests may change.
var paths = []Path{
	{commonAuth, PAM}, {"/etc/pam.d/common-account", PAM}, {savedAuth, PAM}, {seen, Seen}, {answers, Debconf},
	{confDir, Config}, {conf, Config}, {list, Lines}, {caDir, Trust}, {caLink, Trust},
}

// machine is a made tree.
type machine struct {
	t     *testing.T
	dir   string
	store *Store
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, dir: t.TempDir()}
	for file, text := range map[string]string{
		commonAuth: stock, "/etc/pam.d/common-account": "account required pam_unix.so\n", savedAuth: "Module: unix\n",
		seen: "unix\n", answers: "Name: libpam-runtime/profiles\nValue: unix\n",
	} {
		m.write(file, text)
	}
	tree, err := OpenTree(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	m.store = &Store{Tree: tree}
	return m
}

func (m *machine) path(p string) string { return filepath.Join(m.dir, p) }

// write makes a file as most programs do: in place.
func (m *machine) write(p, text string) {
	m.t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(m.path(p)), 0o755), os.WriteFile(m.path(p), []byte(text), 0o644))
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) text(p string) string {
	m.t.Helper()
	data, err := os.ReadFile(m.path(p))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

// states are those of all paths.
func (m *machine) states() map[string]State {
	m.t.Helper()
	all := make(map[string]State)
	for _, p := range paths {
		s, err := m.store.Tree.State(p.Name)
		if err != nil {
			m.t.Fatal(err)
		}
		all[p.Name] = s
	}
	return all
}

// compare fails for each path that is not what it was.
func (m *machine) compare(before map[string]State, but ...string) {
	m.t.Helper()
	for p, now := range m.states() {
		if !now.same(before[p]) && !strings.Contains(strings.Join(but, " "), p) {
			m.t.Errorf("%s: %+v, was %+v", p, now, before[p])
		}
	}
}

// change is what a setup does.
func (m *machine) change() {
	m.t.Helper()
	m.write(commonAuth+".new", with) // as pam-auth-update does
	if err := os.Rename(m.path(commonAuth+".new"), m.path(commonAuth)); err != nil {
		m.t.Fatal(err)
	}
	m.write(savedAuth, "Module: pkcs11\nModule: unix\n")
	m.write(seen, "pkcs11\nunix\n")
	m.write(answers, "Name: libpam-runtime/profiles\nValue: pkcs11, unix\n")
	m.write(conf, "pam_pkcs11 { }\n")
	m.write(list, "sha256:1 alice\n")
	if err := os.MkdirAll(m.path(caDir), 0o755); err != nil {
		m.t.Fatal(err)
	}
	_ = os.Remove(m.path(caLink))
	if err := os.Symlink("/new", m.path(caLink)); err != nil {
		m.t.Fatal(err)
	}
}

// setUp makes a record of a setup that has gone through.
func (m *machine) setUp() {
	m.t.Helper()
	r, err := m.store.Begin(Manifest{Argv: []string{"pam-pkcs11", "setup"}, Enabled: []string{"pkcs11"}}, paths)
	if err != nil {
		m.t.Fatal(err)
	}
	m.change()
	if err := r.Finish(); err != nil {
		m.t.Fatal(err)
	}
}

// undo takes the latest setup back.
func (m *machine) undo(profiles Profiles) *Result {
	m.t.Helper()
	latest, err := m.store.Latest()
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := m.store.Undo(context.Background(), latest, profiles)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// TestByteForByte: content, permissions, owner, times, links and extended attributes come back, and
// what was not there goes.
func TestByteForByte(t *testing.T) {
	m := newMachine(t)
	m.write(conf, "old\n")
	m.write(caDir+"/x", "")
	if err := os.Symlink("../old", m.path(caLink)); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2020, 2, 29, 1, 2, 3, 456789012, time.UTC)
	for p, mode := range map[string]os.FileMode{commonAuth: 0o640, conf: 0o600, savedAuth: 0o604} {
		if err := errors.Join(os.Chmod(m.path(p), mode), os.Chtimes(m.path(p), old, old)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(m.path(commonAuth), "user.note", []byte("by hand\x00"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(m.path(conf), 64001, 64002), os.Lchown(m.path(caLink), 64001, 64001)); err != nil {
			t.Fatal(err)
		}
	}
	before := m.states()

	m.setUp()
	if m.states()[commonAuth].sameContent(before[commonAuth]) {
		t.Fatal("nothing was changed")
	}
	r := m.undo(nil)
	m.compare(before)
	if !r.Clean() || !r.Changed || len(r.Left) != 0 || r.Number != 1 {
		t.Errorf("%+v", r)
	}
	if _, err := m.store.Latest(); !errors.Is(err, ErrNothing) {
		t.Errorf("after the undo: %v", err)
	}
	leftovers, _ := filepath.Glob(m.path("/etc/*/.*pam-pkcs11*"))
	if len(leftovers) > 0 {
		t.Errorf("left: %q", leftovers)
	}
}

// TestSetupsAreTakenBackOneByOne, the last first.
func TestSetupsAreTakenBackOneByOne(t *testing.T) {
	m := newMachine(t)
	first := m.states()
	m.setUp()
	second := m.states()

	r, err := m.store.Begin(Manifest{}, paths)
	if err != nil {
		t.Fatal(err)
	}
	m.write(list, "sha256:1 alice\nsha256:2 bob\n")
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if len(r.Manifest.Entries) != 1 || r.Manifest.Number != 2 {
		t.Errorf("%+v", r.Manifest)
	}

	m.undo(nil)
	m.compare(second)
	m.undo(nil)
	m.compare(first)
}

// TestCutShort: a setup that ended in the middle is taken back, whatever it had done.
func TestCutShort(t *testing.T) {
	for name, change := range map[string]func(m *machine){
		"before the first change": func(*machine) {},
		"half-written":            func(m *machine) { m.write(commonAuth, "garbage") },
		"beside the file":         func(m *machine) { m.write(temporaryName(commonAuth), "gar") },
		"all changed":             func(m *machine) { m.change() },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			before := m.states()
			if _, err := m.store.Begin(Manifest{}, paths); err != nil {
				t.Fatal(err)
			}
			change(m)
			if r := m.undo(nil); !r.Clean() {
				t.Errorf("%+v", r)
			}
			m.compare(before)
		})
	}
}

// TestPackageUpgradeBetween: what packages rewrite without changing it, and what they change that
// counts for no login, does not stand in the way.
func TestPackageUpgradeBetween(t *testing.T) {
	m := newMachine(t)
	before := m.states()
	m.setUp()
	for _, p := range []string{commonAuth, savedAuth} {
		text := m.text(p)
		if err := os.Remove(m.path(p)); err != nil {
			t.Fatal(err)
		}
		m.write(p, text)
	}
	m.write(answers, m.text(answers)+"\nName: other/question\nValue: yes\n")
	m.write(seen, "pkcs11\nsss\nunix\n")

	r := m.undo(nil)
	m.compare(before, answers, seen)
	if !r.Clean() || strings.Join(r.Left, " ") != seen+" "+answers {
		t.Errorf("%+v", r)
	}
}

// switching is pam-auth-update.
type switching struct {
	do       func()
	off, on  []string
	switched int
	fails    error
}

func (s *switching) Switch(_ context.Context, off, on []string) error {
	s.off, s.on = off, on
	s.switched++
	s.do()
	return s.fails
}

const krb5 = "auth\t[success=2 default=ignore]\tpam_krb5.so\n"

// TestAnotherProfileCame: the block is pam-auth-update's then, which takes our profile out.
func TestAnotherProfileCame(t *testing.T) {
	m := newMachine(t)
	before := m.states()
	m.setUp()
	m.write(commonAuth, strings.Replace(with, "auth\t[success=1", krb5+"auth\t[success=1", 1))
	m.write(savedAuth, "Module: pkcs11\nModule: krb5\nModule: unix\n")

	rest := strings.Replace(stock, "auth\t[success=1", krb5+"auth\t[success=1", 1)
	tool := &switching{do: func() { m.write(commonAuth, rest) }}
	r := m.undo(tool)
	if m.text(commonAuth) != rest || tool.switched != 1 || strings.Join(tool.off, " ") != "pkcs11" {
		t.Errorf("%+v:\n%s", tool, m.text(commonAuth))
	}
	if len(r.Edited) != 1 || r.Edited[0].Deed != Switched || !strings.Contains(strings.Join(r.Edited[0].Diff, "\n"), "+"+strings.TrimSpace(krb5)) {
		t.Errorf("%+v", r.Edited)
	}
	m.compare(before, commonAuth, savedAuth, seen)
}

// TestFrozenBlock: where pam-auth-update changes nothing, or cannot be run, the line stays and has
// no say. Taken out, it would shift the jumps of the lines before it.
func TestFrozenBlock(t *testing.T) {
	frozen := strings.Replace(with, "[success=2 default=ignore]\tpam_pkcs11", "[success=2 ignore=ignore default=die]\tpam_pkcs11", 1)
	for name, tool := range map[string]Profiles{
		"frozen": &switching{do: func() {}},
		"broken": &switching{do: func() {}, fails: errors.New("perl is missing")},
		"rescue": nil,
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.setUp()
			m.write(commonAuth, frozen)

			r := m.undo(tool)
			want := strings.Replace(frozen, "[success=2 ignore=ignore default=die]", "[default=ignore]", 1)
			if got := m.text(commonAuth); got != want {
				t.Errorf("\n%s", got)
			}
			if len(r.Edited) != 1 || r.Edited[0].Deed != Defused || (r.Failed != "") != (name == "broken") {
				t.Errorf("%+v", r)
			}
			if _, err := os.Stat(m.path(conf)); !os.IsNotExist(err) {
				t.Errorf("the configuration: %v", err)
			}
		})
	}
}

// TestEditedSince: what an administrator has made of a file stays, with the old file beside it, and
// what was edited is said.
func TestEditedSince(t *testing.T) {
	m := newMachine(t)
	m.write(conf, "old\n")
	m.write("/etc/pam.d/sudo", "@include common-auth\n")
	paths := append([]Path{{"/etc/pam.d/sudo", PAM}}, paths...)
	r, err := m.store.Begin(Manifest{}, paths)
	if err != nil {
		t.Fatal(err)
	}
	m.change()
	m.write("/etc/pam.d/sudo", "auth sufficient pam_pkcs11.so\n@include common-auth\n")
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	m.write(conf, "pam_pkcs11 { debug = true; }\n")
	m.write("/etc/pam.d/sudo", "auth sufficient pam_pkcs11.so\nauth optional pam_echo.so\n@include common-auth\n")
	m.write(caDir+"/mine.pem", "x")

	result := m.undo(nil)
	if got := m.text(conf); got != "pam_pkcs11 { debug = true; }\n" {
		t.Error(got)
	}
	if got := m.text(conf + ".pam-pkcs11-before"); got != "old\n" {
		t.Error(got)
	}
	if got := m.text("/etc/pam.d/sudo"); got != "auth [default=ignore] pam_pkcs11.so\nauth optional pam_echo.so\n@include common-auth\n" {
		t.Error(got)
	}
	if got := m.text(commonAuth); got != stock {
		t.Error(got)
	}
	if len(result.Edited) != 2 || result.Clean() || strings.Join(result.Edited[1].Diff, "|") != "@@ -1,1 +1,1 @@|-pam_pkcs11 { }|+pam_pkcs11 { debug = true; }" {
		t.Errorf("%+v", result.Edited)
	}
	if strings.Join(result.Left, " ") != caDir {
		t.Errorf("left: %q", result.Left)
	}
}

// TestLinesOfOthers: who was added to the list later stays in it.
func TestLinesOfOthers(t *testing.T) {
	m := newMachine(t)
	m.setUp()
	m.write(list, "# ours\nsha256:2 bob\nsha256:1 alice\n")
	r := m.undo(nil)
	if got := m.text(list); got != "# ours\nsha256:2 bob\n" {
		t.Error(got)
	}
	if !r.Clean() {
		t.Errorf("%+v", r)
	}
}

// TestNothingIsTouchedWhereTheRecordIsDamaged.
func TestNothingIsTouchedWhereTheRecordIsDamaged(t *testing.T) {
	for name, damage := range map[string]func(m *machine){
		"another content": func(m *machine) { m.write(StoreDir+"/1/before"+savedAuth, "other") },
		"missing":         func(m *machine) { _ = os.Remove(m.path(StoreDir + "/1/before" + savedAuth)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.setUp()
			before := m.states()
			damage(m)
			latest, err := m.store.Latest()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.store.Undo(context.Background(), latest, nil); err == nil || !strings.Contains(err.Error(), savedAuth) {
				t.Errorf("%v", err)
			}
			m.compare(before)
		})
	}
}

// TestRecordsOfOthersAreNotBelieved.
func TestRecordsOfOthersAreNotBelieved(t *testing.T) {
	manifest := StoreDir + "/1/" + manifestName
	for name, spoil := range map[string]func(m *machine) error{
		"group may write":  func(m *machine) error { return os.Chmod(m.path(manifest), 0o664) },
		"others may write": func(m *machine) error { return os.Chmod(m.path(StoreDir), 0o777) },
		"a link": func(m *machine) error {
			return errors.Join(os.Rename(m.path(manifest), m.path("/m")), os.Symlink("../../../../../m", m.path(manifest)))
		},
		"another's number": func(m *machine) error { return os.Rename(m.path(StoreDir+"/1"), m.path(StoreDir+"/2")) },
		"not JSON":         func(m *machine) error { return os.WriteFile(m.path(manifest), []byte("x"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.setUp()
			if err := spoil(m); err != nil {
				t.Fatal(err)
			}
			if latest, err := m.store.Latest(); err == nil {
				t.Errorf("believed: %+v", latest)
			}
		})
	}
}

// TestNoWayOut: neither a path of the manifest nor a link in the tree leads out of it.
func TestNoWayOut(t *testing.T) {
	m := newMachine(t)
	outside := t.TempDir()
	if err := os.Symlink(outside, m.path(confDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Begin(Manifest{}, []Path{{conf, Config}}); err == nil {
		t.Error("a file outside is taken for one of the machine")
	}
}

// TestOneAtATime.
func TestOneAtATime(t *testing.T) {
	m := newMachine(t)
	unlock, err := m.store.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Lock(); err == nil {
		t.Error("two at a time")
	}
	unlock()
	if unlock, err = m.store.Lock(); err != nil {
		t.Error(err)
	} else {
		unlock()
	}
}
