package undo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// StoreDir is where the records are.
const StoreDir = "/var/lib/pam_pkcs11/setup"

// Store is the records of one machine.
type Store struct {
	Tree *Tree
	Now  func() time.Time // nil: time.Now
}

// ErrNothing is returned where there is nothing to take back.
var ErrNothing = errors.New("there is no setup to take back")

// ErrBusy is returned by Lock where somebody else holds it.
var ErrBusy = errors.New("another setup or undo is at work")

// Path is a path that a setup may change, and what it is for.
type Path struct {
	Name string
	Role Role
}

// Record is a setup that is under way.
type Record struct {
	Manifest Manifest

	store *Store
}

// List returns all records, the oldest first. A record that cannot be read is an error that names
// it.
func (s *Store) List() ([]Manifest, error) {
	numbers, err := s.numbers()
	if err != nil {
		return nil, err
	}

	var all []Manifest
	for _, n := range numbers {
		m, err := s.load(n)
		if err != nil {
			return nil, err
		}
		all = append(all, *m)
	}
	return all, nil
}

// Latest returns the newest record that has not been taken back, or ErrNothing.
func (s *Store) Latest() (*Manifest, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	for _, m := range slices.Backward(all) {
		if m.Stage != Undone {
			return &m, nil
		}
	}
	return nil, ErrNothing
}

// Get returns one record.
func (s *Store) Get(number int) (*Manifest, error) { return s.load(number) }

// Keep writes down that a setup is not to be taken back by itself. Of a record that says so already
// nothing is changed.
func (s *Store) Keep(number int) (*Manifest, error) {
	m, err := s.load(number)
	if err != nil || !m.Pending() {
		return m, err
	}

	m.RevertAt = time.Time{}
	m.RevertBy = ""
	return m, s.save(m)
}

// Lock keeps other setups and undos of this machine out. The answer ends that.
func (s *Store) Lock() (unlock func(), err error) {
	if err := s.mkdirs(StoreDir); err != nil {
		return nil, err
	}
	dir, err := s.Tree.root.Open(name(StoreDir))
	if err != nil {
		return nil, err
	}

	// The kernel gives the lock back when the process ends, however it ends.
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		return nil, ErrBusy
	}
	return func() { _ = dir.Close() }, nil
}

// Begin makes a record of what these paths are now: it is on the disk when Begin returns. Of m the
// fields that tell who does what are taken.
func (s *Store) Begin(m Manifest, paths []Path) (*Record, error) {
	numbers, err := s.numbers()
	if err != nil {
		return nil, err
	}

	// Numbers go up: one that was taken back is not used again.
	m.Version = manifestVersion
	m.Stage = Started
	m.Time = s.now()
	m.Number = 1
	if len(numbers) > 0 {
		m.Number = numbers[len(numbers)-1] + 1
	}

	if err := s.makeDirs(m.Number); err != nil {
		return nil, err
	}

	m.Entries = nil
	for _, p := range paths {
		e := Entry{Path: path.Clean(p.Name), Role: p.Role}
		if e.Before, err = s.Tree.State(e.Path); err != nil {
			return nil, err
		}

		if e.Before.Type == Other {
			return nil, fmt.Errorf("%s is neither a file nor a link", e.Path)
		}
		if err := s.keep(m.Number, &e); err != nil {
			return nil, err
		}
		m.Entries = append(m.Entries, e)
	}
	// The manifest comes last: a record without one is a setup that has changed nothing.
	r := &Record{Manifest: m, store: s}
	return r, s.save(&r.Manifest)
}

// keep copies the content of a file into the record.
func (s *Store) keep(number int, e *Entry) error {
	if e.Before.Type != File {
		return nil
	}

	data, now, err := s.Tree.read(e.Path)
	if err != nil {
		return err
	}
	// The copy and the recorded state must be of one moment.
	if !now.same(e.Before) {
		return fmt.Errorf("%s is being changed by somebody else", e.Path)
	}

	kept := keptPath(number, e.Path)
	if err := s.mkdirs(path.Dir(kept)); err != nil {
		return err
	}
	return s.Tree.Write(kept, data, s.private())
}

// Finish writes down what the paths are now, and drops those that have not changed.
func (r *Record) Finish() error {
	m := r.Manifest
	m.Entries = nil
	for _, e := range r.Manifest.Entries {
		var err error
		if e.After, err = r.store.Tree.State(e.Path); err != nil {
			return err
		}
		// What was not changed must not be taken back either.
		if e.After.same(e.Before) {
			continue
		}
		if e.Role == Lines {
			if e.Added, err = r.store.added(m.Number, &e); err != nil {
				return err
			}
		}
		if err := r.store.keepWritten(m.Number, &e); err != nil {
			return err
		}
		m.Entries = append(m.Entries, e)
	}

	m.Stage = Done
	if err := r.store.save(&m); err != nil {
		return err
	}

	// After the manifest: a copy must not go while a record still names it.
	for _, e := range r.Manifest.Entries {
		left := func(kept Entry) bool { return kept.Path == e.Path }
		if e.Before.Type == File && !slices.ContainsFunc(m.Entries, left) {
			_ = r.store.Tree.remove(keptPath(m.Number, e.Path)) // of no use any more
		}
	}
	r.Manifest = m
	return nil
}

// keepWritten copies what setup wrote into the record, so that it can be told later what others
// have edited.
func (s *Store) keepWritten(number int, e *Entry) error {
	// What only a tool edits is shown to nobody.
	if e.After.Type != File || e.Role == Debconf || e.Role == Compiled {
		return nil
	}
	data, err := s.Tree.ReadFile(e.Path)
	if err != nil {
		return err
	}

	written := writtenPath(number, e.Path)
	if err := s.mkdirs(path.Dir(written)); err != nil {
		return err
	}
	return s.Tree.Write(written, data, s.private())
}

// added are the lines that are in a file now and were not before.
func (s *Store) added(number int, e *Entry) ([]string, error) {
	now, err := s.textOf(e.Path, e.After)
	if err != nil {
		return nil, err
	}
	before, err := s.textOf(keptPath(number, e.Path), e.Before)
	if err != nil {
		return nil, err
	}
	return linesNotIn(now, before), nil
}

// textOf is the content of a path, "" where it is no file.
func (s *Store) textOf(p string, state State) (string, error) {
	if state.Type != File {
		return "", nil
	}
	data, err := s.Tree.ReadFile(p)
	return string(data), err
}

// load reads one record. One that somebody else than root could have written is not believed.
func (s *Store) load(number int) (*Manifest, error) {
	file := path.Join(recordDir(number), manifestName)
	fail := func(err error) (*Manifest, error) { return nil, fmt.Errorf("%s: %w", file, err) }
	// Undo writes as root what the record says: each step of the way to it must be root's.
	for _, dir := range []string{StoreDir, recordDir(number)} {
		if err := s.trusted(dir, Dir); err != nil {
			return fail(err)
		}
	}
	if err := s.trusted(file, File); err != nil {
		return fail(err)
	}

	data, err := s.Tree.ReadFile(file)
	if err != nil {
		return fail(err)
	}

	m, err := ParseManifest(data)
	if err != nil {
		return fail(err)
	}
	// A record that was copied to another number would be taken back as that one.
	if m.Number != number {
		return fail(fmt.Errorf("the manifest is that of setup %d", m.Number))
	}
	return m, nil
}

// trusted refuses a path that others than root, or who runs this, may write.
func (s *Store) trusted(p string, want Kind) error {
	info, err := s.Tree.root.Lstat(name(p))
	if err != nil {
		return err
	}
	state := ofInfo(info)
	switch {
	case state.Type != want:
		return fmt.Errorf("%s is a %s", p, state.Type)
	case state.UID != 0 && int(state.UID) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d", p, state.UID)
	case state.Mode&0o022 != 0:
		return fmt.Errorf("%s may be written by others (mode %04o)", p, state.Mode)
	}
	return nil
}

// save writes the manifest of a record.
func (s *Store) save(m *Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return s.Tree.Write(path.Join(recordDir(m.Number), manifestName), append(data, '\n'),
		s.private())
}

// private is the state of a file of the store.
func (s *Store) private() State {
	return State{
		Type: File,
		Mode: 0o600,
		UID:  uint32(os.Geteuid()),
		GID:  uint32(os.Getegid()),
	}
}

// numbers are those of all records, in order.
func (s *Store) numbers() ([]int, error) {
	names, err := s.Tree.names(StoreDir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, n := range names {
		number, err := strconv.Atoi(n)
		// 0007 is no number of a record: two names would be one record.
		if err != nil || number < 1 || strconv.Itoa(number) != n {
			continue
		}
		manifest := name(path.Join(recordDir(number), manifestName))
		if _, err := s.Tree.root.Lstat(manifest); errors.Is(err, fs.ErrNotExist) {
			continue // cut short before it changed anything
		}

		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	return numbers, nil
}

// makeDirs makes the directories of a record. What a record that was cut short has left is used
// again.
func (s *Store) makeDirs(number int) error {
	if err := s.mkdirs(path.Dir(StoreDir)); err != nil {
		return err
	}
	// Mkdir is content with a directory that is there: it may be somebody else's.
	for _, dir := range []string{StoreDir, recordDir(number)} {
		if err := s.Tree.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := s.trusted(dir, Dir); err != nil {
			return err
		}
	}
	return nil
}

// mkdirs makes a directory and those above it.
func (s *Store) mkdirs(dir string) error {
	var above string
	for part := range strings.SplitSeq(strings.Trim(dir, "/"), "/") {
		above += "/" + part
		mode := os.FileMode(0o755)
		if strings.HasPrefix(above, StoreDir) {
			mode = 0o700
		}
		if err := s.Tree.Mkdir(above, mode); err != nil {
			return err
		}
	}
	return nil
}

// now is the time that records have, without a zone.
func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now().UTC()
	}
	return time.Now().UTC()
}

// recordDir is the directory of a record.
func recordDir(number int) string { return path.Join(StoreDir, strconv.Itoa(number)) }

// keptPath is where the record keeps what a path was before.
func keptPath(number int, p string) string { return path.Join(recordDir(number), "before", p) }
