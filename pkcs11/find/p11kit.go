package find

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// The module files of p11-kit (pkcs11.conf(5)): NAME.module in the directory of the packages, and
// in that of the machine, whose settings come before those of a file of the same name there. What
// users have in their homes is none of a login's.
const (
	packageModules = "/usr/share/p11-kit/modules"
	machineModules = "/etc/pkcs11/modules"
	moduleSuffix   = ".module"
)

// Limits of a module file.
const (
	maxModuleFile = 64 << 10
	maxSettings   = 200
)

// programs are the names by which enable-in and disable-in may mean a login.
var programs = []string{"pam_pkcs11", "pam-pkcs11", "pam_pkcs11_worker", "pam_pkcs11_work"}

// parseModule reads the settings of a module file: lines "name: value", blank ones and comments,
// which begin with "#". A later line of a name counts. A section or anything else is an error with
// its line.
func parseModule(data []byte) (map[string]string, error) {
	if len(data) > maxModuleFile {
		return nil, fmt.Errorf("is longer than %d bytes", maxModuleFile)
	}

	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("is no text")
	}

	settings := map[string]string{}
	number := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}

		name, value, found := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		switch {
		case !found || name == "" || strings.HasPrefix(line, "["):
			return nil, fmt.Errorf("line %d: %.60q is no line name: value", number, line)
		case len(settings) == maxSettings:
			return nil, fmt.Errorf("line %d: more than %d settings", number, maxSettings)
		}
		settings[name] = strings.TrimSpace(value)
	}

	return settings, nil
}

// moduleName is the name of a module by that of its file; "" where p11-kit would not take it.
func moduleName(file string) string {
	name, ok := strings.CutSuffix(file, moduleSuffix)
	if !ok || name == "" || strings.ContainsAny(name[:1], "_-.") {
		return ""
	}

	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
	if strings.Trim(name, allowed) != "" || strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(allowed, r) }) {
		return ""
	}
	return name
}

// registered finds the libraries of module files, in the order of their priority and names.
func registered(root string) []Library {
	settings := map[string]map[string]string{}
	faults := map[string]error{}

	// The files of the machine come first: a setting in them counts more than the package's.
	var order []string
	for _, dir := range []string{machineModules, packageModules} {
		for _, file := range names(root, dir) {
			name := moduleName(file)
			if name == "" {
				continue
			}
			if settings[name] == nil && faults[name] == nil {
				order = append(order, name)
			}

			read, err := readModule(filepath.Join(root, dir, file))
			// The module stays in the list, so that a tool can say why it is not used.
			if err != nil {
				faults[name] = fmt.Errorf("%s: %w", filepath.Join(dir, file), err)
				continue
			}
			settings[name] = under(settings[name], read)
		}
	}

	slices.Sort(order)
	var list []Library
	for _, name := range order {
		list = append(list, moduleLibrary(root, name, settings[name], faults[name]))
	}
	return list
}

// under fills settings up with those of a file that comes after.
func under(settings, later map[string]string) map[string]string {
	if settings == nil {
		return later
	}
	for name, value := range later {
		if _, set := settings[name]; !set {
			settings[name] = value
		}
	}
	return settings
}

func readModule(path string) (map[string]string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, errors.New("cannot be read")
	case !info.Mode().IsRegular():
		return nil, errors.New("is no regular file")
	}

	f, err := os.Open(path)
	if err != nil {
		return nil, errors.New("cannot be read")
	}
	defer f.Close()

	// One octet more than is allowed shows that a file is too long.
	data, err := io.ReadAll(io.LimitReader(f, maxModuleFile+1))
	if err != nil {
		return nil, errors.New("cannot be read")
	}
	return parseModule(data)
}

// moduleLibrary is the library of a module. One with a fault in a file is left out, as p11-kit
// leaves it.
func moduleLibrary(root, name string, settings map[string]string, fault error) Library {
	l := Library{Source: Registered, Module: name}
	if fault != nil {
		l.Path, l.LeftOut = name+moduleSuffix, fault.Error()
		return l
	}

	l.Path, l.Resolved = modulePath(root, settings["module"])
	switch {
	case settings["remote"] != "":
		l.LeftOut = "it is a command, not a library (remote)"
	case settings["module"] == "":
		l.LeftOut = "its module file names no library, which switches it off"
	case !enabled(settings):
		l.LeftOut = "it is for other programs (enable-in, disable-in)"
	}

	if l.Path == "" {
		l.Path = name + moduleSuffix
	}
	return l
}

// modulePath finds the file of a module setting: an absolute path, or a name in p11-kit's
// directory.
func modulePath(root, module string) (path, resolved string) {
	if module == "" {
		return "", ""
	}

	if filepath.IsAbs(module) {
		real, _ := resolve(root, module)
		return filepath.Clean(module), real
	}

	for _, dir := range libraryDirs() {
		path := filepath.Join(dir, "pkcs11", module)
		if real, ok := resolve(root, path); ok {
			return path, real
		}
	}
	return filepath.Join(libraryDirs()[0], "pkcs11", module), ""
}

// enabled reports whether a login may use a module. enable-in comes first, as with p11-kit.
func enabled(settings map[string]string) bool {
	listed := func(names string) bool {
		return slices.ContainsFunc(strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }),
			func(name string) bool { return slices.Contains(programs, name) })
	}
	if names, set := settings["enable-in"]; set {
		return listed(names)
	}
	return !listed(settings["disable-in"])
}
