package pamstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"pam_pkcs11/internal/message"
)

// Refused is a service for which libpam does not start: whatever is asked, the answer is PAM_ABORT.
type Refused struct {
	Service string
	Place   Place // the line at fault; its number is 0 where it is the whole file
	What    message.Text
	Crashes bool // the program that asks ends, or waits for ever
}

// Error names the service, the place and the fault.
func (r *Refused) Error() string {
	if r.Place.File == "" {
		return fmt.Sprintf("PAM refuses the service %s: %s", r.Service, r.What)
	}
	return fmt.Sprintf("PAM refuses the service %s: %s: %s", r.Service, r.Place, r.What)
}

// Load reads the stack of a service of the machine whose files are below root; "" or "/" is this
// machine. A service without a file has the lines of "other"; the name "other" is that stack
// itself.
//
// A *Refused says that libpam would not start. Any other error is one of reading: nothing is known
// then of what libpam, which may have other rights, would read.
func Load(root, service string) (*Stack, error) {
	t := tree{root}
	service = lower(service)
	if service == "" || strings.ContainsAny(service, "/\x00") {
		return nil, fmt.Errorf("%q is no name of a service", service)
	}
	r := &reader{tree: t, dialect: dialectOf(t), stack: &Stack{Service: service}}

	// libpam reads both before it starts, so that a fault in other is one of every service.
	err := r.all()
	var abort *abortError
	if errors.As(err, &abort) {
		return nil, &Refused{service, abort.place, abort.what, abort.fatal}
	}

	if err != nil {
		return nil, err
	}
	return r.stack, nil
}

// all reads the service's file and the default's.
func (r *reader) all() error {
	// libpam takes pam.conf only where no directory of services is there.
	if !slices.ContainsFunc(r.dialect.dirs, r.tree.isDir) {
		return r.fromOneFile()
	}

	read := false
	// Its own file and other, or other alone: "other" is a service as any.
	for _, name := range slices.Compact([]string{r.stack.Service, "other"}) {
		file, data, err := r.find(name)
		if err != nil && isMissing(err) {
			continue
		}
		if err != nil {
			return err
		}

		source := source{file: file, service: name, kind: anyKind}
		if err := r.file(source, data); err != nil {
			return err
		}
		read = true
	}

	if !read {
		return &abortError{what: message.Textf("neither it nor the service other has a file")}
	}
	return nil
}

// fromOneFile reads /etc/pam.conf, which has all services.
func (r *reader) fromOneFile() error {
	data, err := r.tree.read(oneFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &abortError{what: message.Textf("there is neither a directory %s nor a file %s",
			etcDir, oneFile)}
	}
	if err != nil {
		return err
	}
	return r.file(source{file: oneFile, kind: anyKind}, data)
}

// find reads a service's file from the first directory that has one.
func (r *reader) find(service string) (file string, data []byte, err error) {
	err = fs.ErrNotExist
	for _, dir := range r.dialect.dirs {
		file = path.Join(dir, service)
		// Only a file that is missing is looked for elsewhere; one that cannot be read is an error.
		if data, err = r.tree.read(file); err == nil || !isMissing(err) {
			return file, data, err
		}
	}
	return file, nil, err
}

// isMissing reports whether libpam goes on to the next directory.
func isMissing(err error) bool {
	for _, missing := range []error{fs.ErrNotExist, syscall.ELOOP, syscall.ENOTDIR,
		syscall.ENAMETOOLONG} {
		if errors.Is(err, missing) {
			return true
		}
	}
	return false
}

// onlyIncluded are files that are there for others to include.
var onlyIncluded = []string{
	"common-*", "system-auth*", "password-auth*", "smartcard-auth*", "fingerprint-auth*",
	"switchable-auth*",
	"system-login", "system-local-login", "system-remote-login", "system-services", "postlogin*",
	"base-*",
}

// leftovers are files of editors and package managers.
var leftovers = []string{".*", "*~", "*.bak", "*.orig", "*.old", "*.dpkg-*", "*.ucf-*", "*.pam-*",
	"*.rpm*", "*.pacnew", "*.pacsave", "#*#", "README*"}

// Services are the names of the services that have a file on the machine below root, in their
// order, "other" among them. What is there to be included only, and what editors and package
// managers leave, is left out.
func Services(root string) ([]string, error) {
	t := tree{root}
	var names []string

	for _, dir := range dialectOf(t).dirs {
		where, err := t.where(dir)
		if err != nil {
			return nil, err
		}

		entries, err := os.ReadDir(where)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}

		for _, entry := range entries {
			if isService(entry) {
				names = append(names, entry.Name())
			}
		}
	}

	slices.Sort(names)
	return slices.Compact(names), nil
}

// isService reports whether an entry of a directory is the file of a service. libpam asks for names
// in lower case only.
func isService(entry fs.DirEntry) bool {
	name := entry.Name()
	if entry.IsDir() || name != lower(name) {
		return false
	}
	for _, pattern := range slices.Concat(onlyIncluded, leftovers) {
		if match, _ := filepath.Match(pattern, name); match {
			return false
		}
	}
	return true
}
