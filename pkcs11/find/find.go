// Package find looks for the PKCS#11 libraries of a machine: those that are registered with
// p11-kit, and those at the paths where packages of card makers put them. It loads none of them:
// package internal/probe does.
package find

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source is how a library was found.
type Source string

const (
	Registered Source = "p11-kit" // by a file NAME.module
	Known      Source = "known"   // at a path where packages put it
)

// Library is one library. Its JSON is an interface.
type Library struct {
	Path     string `json:"path"`               // absolute, as the machine sees it: without root
	Resolved string `json:"resolved,omitempty"` // without symbolic links; "" where there is no file
	Source   Source `json:"source"`
	Module   string `json:"module,omitempty"` // the name of the module file, without .module

	// LeftOut is why no login should use it, in English; "" where it may. Such a library is not
	// loaded.
	LeftOut string `json:"left_out,omitempty"`
}

// Usable reports whether it may be loaded, as far as its place tells.
func (l Library) Usable() bool { return l.LeftOut == "" }

// maxLibraries bounds the list.
const maxLibraries = 64

// Libraries lists the libraries of the machine whose files are below root, "" or "/" for this one,
// those that are registered first; each file stands in it once. Those that were left out come last,
// each with the reason. Files that cannot be read are left out.
func Libraries(root string) []Library {
	var list []Library
	seen := map[string]bool{}
	for _, l := range slices.Concat(registered(root), known(root)) {
		// A registered library may also lie at a usual path: its registration counts.
		same := cmp.Or(l.Resolved, l.Path)
		if seen[same] || len(list) == maxLibraries {
			continue
		}
		seen[same] = true
		if l.LeftOut == "" {
			l.LeftOut = notForCards(l)
		}
		list = append(list, l)
	}

	slices.SortStableFunc(list, func(a, b Library) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

// rank puts what may be used first, and of that OpenSC, which knows PIV cards and most others.
func rank(l Library) int {
	switch {
	case !l.Usable():
		return 2
	case filepath.Base(l.Path) == "opensc-pkcs11.so":
		return 0
	}
	return 1
}

// knownNames are the libraries of packages, relative to a library directory (ld.so's, one of
// libraryDirs).
var knownNames = []string{
	"opensc-pkcs11.so",
	"onepin-opensc-pkcs11.so",
	"libykcs11.so.2",
	"libykcs11.so",
	"libtpm2_pkcs11.so.1",
	"libtpm2_pkcs11.so",
	"libcoolkeypk11.so",
	"libcackey.so",
	"libeToken.so",
	"libeTPkcs11.so",
	"libASEP11.so",
	"libbeidpkcs11.so.0",
	"libbit4xpki.so",
	"libacpkcs211.so",
	"libidprimepkcs11.so",
}

// never are libraries that no login should use, by the beginning of the name of their file.
var never = []struct{ prefix, why string }{
	{"p11-kit-trust", "it holds certificate authorities, no cards"},
	{"p11-kit-proxy", "it stands for all other libraries, also for those that no login should use"},
	{"p11-kit-client", "it speaks to another process, which needs a user's session"},
	{"libp11-kit", "it stands for all other libraries, also for those that no login should use"},
	{"gnome-keyring", "it holds the keys of a user's session, no cards"},
	{"pkcs11-spy", "it writes all calls to a file, the PIN too"},
	{"libsofthsm", "its tokens are files of this machine, no cards"},
	{"libnssckbi", "it holds certificate authorities, no cards"},
	{"libsoftokn", "its tokens are files of this machine, no cards"},
}

// notForCards is why a library is left out for what it is; "" for none.
func notForCards(l Library) string {
	if l.Resolved == "" {
		return "there is no such file"
	}
	// By both names: a link of another name may lead to such a library.
	for _, n := range never {
		if strings.HasPrefix(filepath.Base(l.Path), n.prefix) || strings.HasPrefix(filepath.Base(l.Resolved), n.prefix) {
			return n.why
		}
	}
	return ""
}

// known finds the libraries at their usual paths, and all of p11-kit's directories.
func known(root string) []Library {
	var list []Library
	add := func(path string) {
		if real, ok := resolve(root, path); ok {
			list = append(list, Library{Path: path, Resolved: real, Source: Known})
		}
	}

	for _, dir := range libraryDirs() {
		for _, name := range knownNames {
			add(filepath.Join(dir, name))
		}
	}

	for _, dir := range libraryDirs() {
		for _, name := range names(root, filepath.Join(dir, "pkcs11")) {
			if strings.HasSuffix(name, ".so") {
				add(filepath.Join(dir, "pkcs11", name))
			}
		}
	}

	return list
}

// maxNames bounds what is read of a directory.
const maxNames = 1000

// names lists a directory below root, sorted; nothing where it cannot be read.
func names(root, dir string) []string {
	d, err := os.Open(filepath.Join(root, dir))
	if err != nil {
		return nil
	}
	defer d.Close()

	list, err := d.Readdirnames(maxNames)
	if err != nil {
		return nil
	}
	slices.Sort(list)
	return list
}

// resolve follows the links of a path below root. ok is false where there is no regular file. A
// link that leads out of root is none of that machine.
func resolve(root, path string) (real string, ok bool) {
	base := "/"
	if root != "" && root != "/" {
		var err error
		if base, err = filepath.EvalSymlinks(root); err != nil {
			return "", false
		}
	}

	real, err := filepath.EvalSymlinks(filepath.Join(base, path))
	if err != nil {
		return "", false
	}

	info, err := os.Stat(real)
	if err != nil || !info.Mode().IsRegular() {
		return "", false
	}

	// A link may lead out of root, to a file of this machine.
	below, err := filepath.Rel(base, real)
	if err != nil || strings.HasPrefix(below, "..") {
		return "", false
	}

	return filepath.Join("/", below), true
}
