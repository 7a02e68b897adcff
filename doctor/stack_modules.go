package doctor

import (
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/pamstack"
)

// entryPoints are what a module must have for the stacks of each kind.
var entryPoints = map[pamstack.Kind]string{
	pamstack.Auth: "pam_sm_authenticate", pamstack.Account: "pam_sm_acct_mgmt",
	pamstack.Session: "pam_sm_open_session", pamstack.Password: "pam_sm_chauthtok",
}

// checkModules looks whether every module of the stacks is there and can be one. Nothing is loaded:
// the files are read.
func checkModules(_ context.Context, m *Machine) diagnosis.Findings {
	stacks, _ := m.stacks()
	looked := map[string]moduleFile{}
	var found byPlace

	for _, stack := range stacks {
		for _, k := range pamstack.Kinds() {
			for _, line := range stack.Lines(k) {
				// Lines that libpam cannot read are the findings of another check.
				if line.Module == "" || !line.Broken.Empty() {
					continue
				}
				file, known := looked[line.Module]
				if !known {
					file = m.module(line.Module)
					looked[line.Module] = file
				}

				if f, bad := file.unfit(line); bad {
					found.add(stack.Service, f)
				}
			}
		}
	}
	return found.all()
}

// moduleFile is what the file of a module looks like.
type moduleFile struct {
	path   string
	fault  message.Text // why libpam cannot load it
	unsafe message.Text
	names  []string // what it exports
}

// module finds the file of a module as libpam does: a name without a directory is one in the
// directory of modules.
func (m *Machine) module(name string) moduleFile {
	paths := []string{name}
	if !strings.HasPrefix(name, "/") {
		paths = nil
		for _, dir := range securityDirectories {
			paths = append(paths, m.glob(dir+"/"+name)...)
		}
	}

	for _, path := range paths {
		if info, err := os.Stat(m.Path(path)); err == nil {
			return m.readModule(path, info)
		}
	}
	return moduleFile{path: name, fault: message.Textf("the module is not there")}
}

// readModule reads a module's file.
func (m *Machine) readModule(path string, info fs.FileInfo) moduleFile {
	file := moduleFile{path: path}
	if !info.Mode().IsRegular() {
		file.fault = message.Textf("the module is no regular file")
		return file
	}

	// In a tree of files the owner may be whoever has unpacked it.
	st, ok := info.Sys().(*syscall.Stat_t)
	unsafe := ok && (st.Uid != 0 || info.Mode().Perm()&0o022 != 0)
	if unsafe && m.Live() {
		file.unsafe = message.Textf(
			"others than root can change this module, which root's programs load (mode %04o)",
			info.Mode().Perm())
	}

	binary, err := elf.Open(m.Path(path))
	if err != nil {
		file.fault = message.Textf("the module is no library that can be loaded: %v", err)
		return file
	}
	defer binary.Close()

	other, err := m.libpam()
	if err == nil && (other.Class != binary.Class || other.Machine != binary.Machine) {
		file.fault = message.Textf("the module is for another architecture (%s)", binary.Machine)
		return file
	}

	symbols, err := binary.DynamicSymbols()
	if err != nil {
		file.fault = message.Textf("the module is no library that can be loaded: %v", err)
		return file
	}

	for _, symbol := range symbols {
		if symbol.Section != elf.SHN_UNDEF {
			file.names = append(file.names, symbol.Name)
		}
	}
	return file
}

// libpam is the header of the libpam that is installed, which is what modules must fit.
func (m *Machine) libpam() (elf.FileHeader, error) {
	places := []string{
		"/lib/*/libpam.so.0", "/usr/lib/*/libpam.so.0", "/lib64/libpam.so.0",
		"/usr/lib64/libpam.so.0", "/usr/lib/libpam.so.0", "/lib/libpam.so.0",
	}
	for _, pattern := range places {
		// With several architectures a module of either may be right: nothing is said then.
		if paths := m.glob(pattern); len(paths) == 1 {
			binary, err := elf.Open(m.Path(paths[0]))
			if err != nil {
				return elf.FileHeader{}, err
			}
			defer binary.Close()
			return binary.FileHeader, nil
		}
	}
	return elf.FileHeader{}, fs.ErrNotExist
}

// unfit says what a line's module lacks.
func (f moduleFile) unfit(line pamstack.Line) (diagnosis.Finding, bool) {
	subject := fmt.Sprintf("%s: %s", line.Place(), line.Module)
	remedy := message.Textf("install the package that has it, or take the line out of the file")

	switch {
	case !f.fault.Empty() && line.Optional:
		return diagnosis.Finding{}, false // the dash: it may be missing
	// Harmless without a dash: libpam only writes it to the log.
	case !f.fault.Empty() && harmless(line):
		return note("stack-module-missing", subject, f.fault), true
	case !f.fault.Empty():
		return refuse("stack-module-missing", subject, f.fault, remedy), true
	case !f.unsafe.Empty():
		return refuse("stack-module-unsafe", subject, f.unsafe,
			message.Textf("run: chown root:root %s && chmod go-w %s", f.path, f.path)), true
	case !slices.Contains(f.names, entryPoints[line.Kind]):
		return refuse("stack-module-unfit", subject,
			message.Textf("the module has no function %s, which a stack of type %s calls",
				entryPoints[line.Kind], line.Kind), remedy), true
	}
	return diagnosis.Finding{}, false
}

// harmless reports whether nothing comes of a module that cannot be loaded.
func harmless(line pamstack.Line) bool {
	return line.Control.On(pamstack.ModuleUnknown) == pamstack.ActIgnore && !line.IsOurs()
}
