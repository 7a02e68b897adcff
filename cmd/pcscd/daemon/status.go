package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

// `pcscd --status` asks a socket of its own beside that of the programs, whose protocol has nothing
// of it. Whoever connects and is root, or the user whom the daemon runs as, gets the status as
// text; nothing is read.

// statusSocket is the socket on which the daemon at a socket answers `pcscd --status`.
func statusSocket(o *options) string {
	if o.socket != "" {
		return o.socket + pcsc.StatusSuffix
	}
	return runDirectory + "/pcscd.status"
}

// Limits of the answer to --status.
const (
	statusTime    = 5 * time.Second
	longestStatus = 1 << 20
)

// statusListener is the socket for the status. It is made before the daemon gives up the rights
// that it needs for that. A daemon that cannot make it does without: listener is nil then.
type statusListener struct {
	listener net.Listener
	unlink   func()
	log      *slog.Logger
}

// listenStatus makes the socket at path.
func listenStatus(path string, log *slog.Logger) *statusListener {
	s := &statusListener{unlink: func() {}, log: log}
	l, err := bind(path, 0o600)
	if err != nil {
		log.Warn("pcscd --status will not be answered", "err", err)
		return s
	}

	file := os.NewFile(uintptr(l.fd), path)
	s.listener, err = net.FileListener(file)
	// FileListener has made a duplicate.
	file.Close()
	if err != nil {
		l.unlink()
		log.Warn("pcscd --status will not be answered", "err", err)
		return s
	}

	s.unlink = l.unlink
	return s
}

// close ends the socket.
func (l *statusListener) close() {
	l.unlink()
	if l.listener != nil {
		l.listener.Close()
	}
}

// serve answers until stop is called.
func (l *statusListener) serve(s *server.Server) (stop func()) {
	if l.listener == nil {
		return func() {}
	}

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// No descriptors or no memory: another try after a pause.
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			writeStatus(c, s, l.log)
		}
	}()

	return func() {
		l.close()
		<-ended
	}
}

// writeStatus writes the status to a connection, if its user may know it.
func writeStatus(c net.Conn, s *server.Server, log *slog.Logger) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(statusTime))

	uid, err := userOf(c)
	if err != nil || uid != 0 && uid != os.Geteuid() {
		log.Warn("the status is for root and the user of the daemon", "uid", uid, "err", err)
		return
	}

	if _, err := io.WriteString(c, statusText(s.Status())); err != nil {
		log.Debug("telling the status", "err", err)
	}
}

// userOf is the user at the other end of a connection.
func userOf(c net.Conn) (uid int, err error) {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return -1, errors.New("not a local connection")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}

	var cred *unix.Ucred
	var problem error
	err = raw.Control(func(fd uintptr) {
		cred, problem = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil {
		return -1, err
	}

	if problem != nil {
		return -1, problem
	}
	return int(cred.Uid), nil
}

// statusText is the status for people to read.
func statusText(status server.ServiceStatus) string {
	var b strings.Builder
	if len(status.Readers) == 0 {
		b.WriteString("no readers\n")
	}

	for _, r := range status.Readers {
		fmt.Fprintf(&b, "%s: %s\n", r.Name, strings.Join(readerWords(&r), ", "))
		for _, c := range r.Connections {
			fmt.Fprintf(&b, "  %-11s  %s\n", c.Mode, programText(c.ProgramStatus))
		}
		for _, p := range r.Waiting {
			fmt.Fprintf(&b, "  %-11s  %s\n", "waits", programText(p))
		}
	}

	for _, u := range status.Unusable {
		fmt.Fprintf(&b, "%s%s\n", pcsc.UnusableReader, printable(u))
	}
	for _, p := range status.Unconnected {
		fmt.Fprintf(&b, "without a connection to a reader: %s\n", programText(p))
	}
	return b.String()
}

// readerWords describe a reader and what is in it.
func readerWords(r *resmgr.ReaderStatus) []string {
	var words []string
	switch {
	case r.State&pcsc.Unknown != 0:
		words = append(words, "the reader does not answer")
	case r.State&pcsc.Present == 0:
		words = append(words, "no card")
	case r.State&pcsc.Swallowed != 0:
		words = append(words, "a card that does not answer")
	default:
		words = append(words, fmt.Sprintf("card with the ATR % X", r.ATR))
	}

	switch r.Protocol {
	case pcsc.ProtocolT0:
		words = append(words, "T=0")
	case pcsc.ProtocolT1:
		words = append(words, "T=1")
	case pcsc.ProtocolRaw:
		words = append(words, "raw")
	}

	if r.Busy {
		words = append(words, "busy")
	}
	return words
}

func programText(p resmgr.ProgramStatus) string {
	return fmt.Sprintf("pid %d (%s) uid %d", p.PID, printable(p.Name), p.UID)
}

// askStatus is `pcscd --status`.
func askStatus(o *options, w io.Writer) error {
	path := statusSocket(o)
	c, err := net.DialTimeout("unix", path, statusTime)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: no daemon runs", path)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: only root and the user of the daemon may ask: %w", path, err)
	case err != nil:
		return err
	}

	defer c.Close()
	c.SetDeadline(time.Now().Add(statusTime))

	// A daemon that refuses closes the connection, and says nothing.
	n, err := io.Copy(w, io.LimitReader(c, longestStatus))
	if err == nil && n == 0 {
		err = fmt.Errorf("%s: the daemon says nothing: only root and its user may ask", path)
	}
	return err
}
