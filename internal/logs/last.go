package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// LastFile is where root's login leaves its warnings and its refusal when no log takes them.
const LastFile = "/run/pam_pkcs11/last"

// maxLast bounds how many lines one request leaves.
const maxLast = 16

// lastFile keeps the lines of one request that no log took; the next request that needs it replaces
// them.
type lastFile struct {
	path  string // "" is none
	names names
	now   func() time.Time

	// mu guards the fields below.
	mu   sync.Mutex
	text []byte
	n    int
}

// write puts the lines until now in the place of the file, which only its owner may read.
func (l *lastFile) write(record []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path == "" || l.n == maxLast {
		return nil
	}

	l.n++
	l.text = fmt.Appendf(l.text, "%s %s%s\n", l.now().Format(time.RFC3339), l.names.prefix(),
		record)

	dir := filepath.Dir(l.path)
	if err := os.Mkdir(dir, 0o700); err != nil && !os.IsExist(err) {
		return err
	}

	// In a directory that others may write the file could be replaced by theirs.
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is no directory that is only its owner's to write", dir)
	}

	// A new file in the place of the old one: a reader sees all lines of one request, or none.
	file, err := os.CreateTemp(dir, ".last-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())

	_, err = file.Write(l.text)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}

	return os.Rename(file.Name(), l.path)
}
