package doctor

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/confcheck"
	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/probe"
	"pam_pkcs11/pkcs11"
)

// libraryChecks are those of the PKCS#11 libraries that the configuration names.
func libraryChecks() []Check {
	return []Check{
		{ID: "pkcs11-library", Title: message.Textf("The files of PKCS#11 libraries"),
			Run: checkLibraryFiles},
		{ID: "libpcsclite", Title: message.Textf(
			"The library that PKCS#11 libraries need for readers"), Run: checkPCSCLite},
		{ID: "pkcs11-load", Title: message.Textf("Loading the PKCS#11 libraries"),
			Run: checkLoading},
	}
}

// libraries are the blocks with a PKCS#11 library; why says why there is none.
func (m *Machine) libraries() (blocks []*config.Module, why diagnosis.Findings) {
	if m.Config == nil {
		return nil, list(noConfiguration("pkcs11_module"))
	}

	for _, module := range m.Config.Modules {
		if !module.Builtin {
			blocks = append(blocks, module)
		}
	}

	if len(blocks) == 0 {
		return nil, list(note("pkcs11-builtin", "pkcs11_module",
			message.Textf("the built-in card is used, and no PKCS#11 library")))
	}
	return blocks, nil
}

// checkLibraryFiles looks at the files, and loads none.
func checkLibraryFiles(_ context.Context, m *Machine) diagnosis.Findings {
	blocks, found := m.libraries()
	for _, module := range blocks {
		found.Add(libraryFile(module.Path, m.Config.Global.StrictPermissions))
	}
	return found
}

// libraryFile is the finding about a library: a login would load it, or why not.
func libraryFile(path string, strict bool) diagnosis.Finding {
	resolved, err := pkcs11.LibraryFile(path, strict)
	switch {
	case hidden(err):
		return asRoot(path)
	case errors.Is(err, fs.ErrNotExist):
		return refuse("library-missing", path, message.Textf("the PKCS#11 library is not there"),
			message.Textf(
				"install its package (OpenSC: apt install opensc-pkcs11), or set module in the configuration"))
	case err != nil:
		return refuse("library-owner", path,
			message.Textf("the PKCS#11 library is not loaded: %v", err),
			message.Textf("run: chown root:root %s && chmod go-w %s", path, path))
	}

	// In the order in which the loader finds faults: the first one explains the others.
	if err := confcheck.CheckELF(resolved.Path); err != nil {
		return refuse("library-wrong-kind", path,
			message.Textf("the PKCS#11 library cannot be loaded: it %v", err),
			message.Textf("install the library for this system's architecture"))
	}
	if !hasSymbol(resolved.Path, "C_GetFunctionList") {
		return refuse("library-not-pkcs11", path,
			message.Textf("the library is not a PKCS#11 library: it has no C_GetFunctionList"),
			message.Textf("set module in the configuration to the PKCS#11 library of the card"))
	}
	return good("library", path,
		message.Textf("the file is a PKCS#11 library that only root can have written"))
}

// hasSymbol reports whether a shared object has a dynamic symbol of its own.
func hasSymbol(path, name string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()

	symbols, err := f.DynamicSymbols()
	return err == nil && slices.ContainsFunc(symbols, func(s elf.Symbol) bool {
		// A library that only calls it has the name too, in no section of its own.
		return s.Name == name && s.Section != elf.SHN_UNDEF
	})
}

// checkLoading loads each library in a child process, as a login's worker does.
func checkLoading(ctx context.Context, m *Machine) diagnosis.Findings {
	blocks, found := m.libraries()
	if len(blocks) > 0 && !m.Live() {
		return list(otherRoot("pkcs11-load"))
	}

	for _, module := range blocks {
		// A library that a login refuses is not loaded here either: loading runs its code.
		f := libraryFile(module.Path, m.Config.Global.StrictPermissions)
		if f.Severity == diagnosis.OK {
			found.Add(loads(ctx, module)...)
		}
	}

	if len(found) == 0 {
		found.Add(notLooked("pkcs11-load",
			message.Textf("no library is loaded whose file is not as it must be")))
	}
	return found
}

// loads tells what a library does when it is loaded.
func loads(ctx context.Context, module *config.Module) diagnosis.Findings {
	path := module.Path
	debug := message.Textf(
		"update the library's package, or use the built-in card: use_pkcs11_module = builtin")

	answer, err := probe.Library(ctx, path, module.Environment)

	var ended *probe.Ended
	switch {
	case errors.As(err, &ended) && ended.Hangs:
		return list(refuse("library-hangs", path,
			message.Textf(
				"the PKCS#11 library does not answer in time: a login waits for it, and is refused"), debug))
	case errors.As(err, &ended) && ended.Signal != "":
		return list(refuse("library-crashes", path,
			message.Textf("the PKCS#11 library crashes: %s", ended.Signal), debug))
	case errors.As(err, &ended):
		return list(refuse("library-ends", path,
			message.Textf("the PKCS#11 library ends the program that loads it: %v", ended), debug))
	case err != nil:
		return list(notLooked(path,
			message.Textf("the PKCS#11 library could not be loaded in a process of its own: %v",
				err)))
	case answer.Library == nil:
		return list(refuse("library-fails", path,
			message.Textf("the PKCS#11 library cannot be used: %s", printable(answer.Failure.Text)),
			debug))
	}

	// From here on the library has been loaded, and may still fail at its slots.
	l := answer.Library
	found := list(good("library-loads", path,
		message.Textf("%s %d.%d loads and shows %d slots", printable(l.Description), l.Major,
			l.Minor, len(answer.Slots))))
	if answer.Failure != nil {
		found = list(refuse("library-fails", path,
			message.Textf("the PKCS#11 library cannot list its slots: %s",
				printable(answer.Failure.Text)), debug))
	}

	if leavesUnlocked(l.Manufacturer, l.Major, l.Minor) {
		found.Add(warn("library-leaves-unlocked", path,
			message.Textf(
				"OpenSC before 0.24 does not lock PIV cards again: after a login other programs can use the card's keys until it is taken out"),
			message.Textf(
				"use the built-in card for PIV (use_pkcs11_module = builtin), or OpenSC 0.24")))
	}
	return found
}

// leavesUnlocked reports whether a library does not lock PIV cards again: OpenSC had no command for
// it before 0.24.
func leavesUnlocked(manufacturer string, major, minor byte) bool {
	return strings.HasPrefix(manufacturer, "OpenSC") && major == 0 && minor < 24
}

// pcscLite is what PKCS#11 libraries load to reach the daemon for readers.
const pcscLite = "libpcsclite.so.1"

// checkPCSCLite looks for libpcsclite where a library needs it. OpenSC and others load it while
// they run, so that no dependency of the loader or of packages names it.
func checkPCSCLite(_ context.Context, m *Machine) diagnosis.Findings {
	blocks, found := m.libraries()
	for _, module := range blocks {
		if !needsPCSCLite(module.Path, m.libraryDirs()) {
			continue
		}

		if at := m.find(pcscLite); at != "" {
			found.Add(good("libpcsclite", at,
				message.Textf("%s, which the PKCS#11 library needs for readers, is there",
					pcscLite)))
			continue
		}

		found.Add(refuse("libpcsclite-missing", module.Path,
			message.Textf(
				"the PKCS#11 library loads %s to reach readers, and it is not there: no reader is found", pcscLite),
			message.Textf("run: apt install libpcsclite1 (elsewhere: pcsc-lite-libs)")))
	}

	if len(found) == 0 {
		found.Add(note("libpcsclite", "pkcs11_module",
			message.Textf("the PKCS#11 library does not name libpcsclite")))
	}
	return found
}

// libraryDirs are the directories in which the loader looks (ld.so(8)), as paths of the machine.
func (m *Machine) libraryDirs() []string {
	dirs := []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"}
	for _, file := range append([]string{"/etc/ld.so.conf"},
		m.glob("/etc/ld.so.conf.d/*.conf")...) {
		text, err := m.text(file)
		if err != nil {
			continue
		}

		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "/") && !slices.Contains(dirs, line) {
				dirs = append(dirs, line)
			}
		}
	}
	return dirs
}

// find is where the loader finds a library; "" is nowhere.
func (m *Machine) find(name string) string {
	for _, dir := range m.libraryDirs() {
		if at := path.Join(dir, name); m.exists(at) {
			return at
		}
	}
	return ""
}

// maxLibrary bounds what is read of a library, in bytes.
const maxLibrary = 64 << 20

// needsPCSCLite reports whether a library, or one that it is linked with, names libpcsclite.
func needsPCSCLite(library string, dirs []string) bool {
	if mentions(library, "libpcsclite.so") {
		return true
	}

	f, err := elf.Open(library)
	if err != nil {
		return false
	}
	defer f.Close()

	needed, _ := f.ImportedLibraries()
	for _, name := range needed {
		for _, dir := range append([]string{filepath.Dir(library)}, dirs...) {
			// libc is never the one, and a name with a path is not looked for in directories.
			if strings.HasPrefix(name, "libc.so") || strings.Contains(name, "/") {
				break
			}
			at := filepath.Join(dir, name)
			if _, err := os.Stat(at); err == nil {
				if mentions(at, "libpcsclite.so") {
					return true
				}
				break
			}
		}
	}
	return false
}

// mentions reports whether a file holds a text.
func mentions(path, text string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()

	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}

	// In the whole file: what a library loads while it runs is no more than a string in it.
	data, err := io.ReadAll(io.LimitReader(f, maxLibrary))
	return err == nil && bytes.Contains(data, []byte(text))
}
