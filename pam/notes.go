package main

import (
	"io"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"pam_pkcs11/login"
)

// Places in the file of notes, see host/relay.h.
const (
	noteExited   = 0
	noteChanging = 1
	notePlace    = 8
	notesSize    = 512
	noteCrash    = 4096
)

// notes tell the relay where the worker is, in memory that outlives it: a library that crashes, or
// calls exit, leaves no time for words. A note costs some memory copies, no system call.
type notes struct {
	page []byte
}

// descriptorSender is a relay that takes a descriptor beside a frame.
type descriptorSender interface {
	sendDescriptor(frame []byte, fd int) error
}

// sendNotes makes the file and sends it as the first frame. Where none can be made the frame alone
// says that the worker runs.
func sendNotes(relay io.ReadWriter) (*notes, error) {
	sender, ok := relay.(descriptorSender)
	n, file := makeNotes()
	if !ok || n == nil {
		return nil, writeFrame(relay, verbNotes)
	}

	defer file.Close()
	// The descriptor goes with the frame's octets, which writeFrame cannot do.
	return n, sender.sendDescriptor([]byte{protocolVersion, byte(verbNotes), 0, 0, 0, 0, 0, 0}, int(file.Fd()))
}

// makeNotes returns nil where there can be no notes. A process that may not write files would be
// killed for trying.
func makeNotes() (*notes, *os.File) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil || limit.Cur < 1<<30 {
		return nil, nil
	}

	// Sealed against execution: Linux before 6.3 does not know the flag.
	fd, err := unix.MemfdCreate("pam_pkcs11_worker", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err != nil {
		if fd, err = unix.MemfdCreate("pam_pkcs11_worker", unix.MFD_CLOEXEC); err != nil {
			return nil, nil
		}
	}

	file := os.NewFile(uintptr(fd), "notes")
	n, err := fillNotes(file)
	if err != nil {
		_ = file.Close()
		return nil, nil
	}
	return n, file
}

func fillNotes(file *os.File) (*notes, error) {
	if err := file.Truncate(noteCrash); err != nil {
		return nil, err
	}
	page, err := unix.Mmap(int(file.Fd()), 0, noteCrash, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}

	// Go's runtime writes the report of a crash where the file's offset stands: behind the notes.
	if _, err := file.Seek(noteCrash, io.SeekStart); err != nil {
		return nil, err
	}
	if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
		return nil, err
	}

	noteEnds(page)
	return &notes{page: page}, nil
}

// at notes where the request is: "in C_Login of LIBRARY, STEP".
func (n *notes) at(p login.Place) {
	if n == nil {
		return
	}
	text := n.page[notePlace:notesSize]
	end := 0
	for _, part := range placeWords(p) {
		end += copy(text[end:len(text)-1], part)
	}
	// The relay reads a C string: the last octet is that of its end.
	text[end] = 0

	// Only C_SetPIN may have changed the PIN when the process dies.
	n.page[noteChanging] = 0
	if p.Function == "C_SetPIN" {
		n.page[noteChanging] = 1
	}
}

func placeWords(p login.Place) []string {
	switch {
	case p.Function != "":
		return []string{"in ", p.Function, " of ", p.Library, ", ", p.Step}
	case p.Library != "":
		return []string{p.Step, ", with ", p.Library}
	}
	return []string{p.Step}
}
