package logs

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// socketPath is where syslogd or journald listens (syslog(3), _PATH_LOG).
	socketPath = "/dev/log"
	// maxWait bounds the time that one record may take. A log that does not answer must not hold up
	// a login.
	maxWait = time.Second
	// journalPath is where journald takes records with fields (systemd's "Native Journal
	// Protocol").
	journalPath = "/run/systemd/journal/socket"
	// authpriv is the facility LOG_AUTHPRIV, shifted as in RFC 3164 section 4.1.1.
	authpriv = 10 << 3
)

// Config says where and under which name a Syslog handler writes. The zero value of a field is its
// default.
type Config struct {
	Service string           // PAM_SERVICE
	Kind    string           // "auth" or "chauthtok"
	PID     int              // the process shown beside the service; 0 is this one
	Path    string           // the socket; "" is /dev/log
	Level   slog.Leveler     // nil is slog.LevelInfo
	Now     func() time.Time // nil is time.Now
	Journal string           // journald's own socket; "" is that of systemd, unless Path is set
	Last    string           // file for what no log takes; "" is none
}

// Syslog returns a handler that writes to the system's log as pam_syslog(3) would: facility
// LOG_AUTHPRIV, the text preceded by "pam_pkcs11(service:kind): ". A record that the log does not
// take within one second is lost.
func Syslog(service, kind string) slog.Handler { return New(Config{Service: service, Kind: kind}) }

// New is Syslog with every choice open. It opens nothing before the first record.
func New(c Config) slog.Handler {
	if c.PID == 0 {
		c.PID = os.Getpid()
	}
	if c.Path == "" {
		c.Path = socketPath
	}
	if c.Level == nil {
		c.Level = slog.LevelInfo
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	// Whoever names another socket, as a test does, must not reach the journal of the system.
	if c.Journal == "" && c.Path == socketPath {
		c.Journal = journalPath
	}

	names := names{
		service: word(c.Service),
		kind:    word(c.Kind),
		pid:     c.PID,
	}

	return &handler{to: &destination{
		journal: &journal{path: c.Journal, names: names},
		syslog:  &socket{path: c.Path, prefix: names.prefix(), now: c.Now},
		last:    &lastFile{path: c.Last, names: names, now: c.Now},
	}, level: c.Level}
}

// names are what each record of a request begins with.
type names struct {
	service, kind string
	pid           int
}

// prefix is the tag of RFC 3164 and the words of pam_syslog(3).
func (n names) prefix() string { return fmt.Sprintf("%s[%d]: %s", n.service, n.pid, n.words()) }

func (n names) words() string { return fmt.Sprintf("pam_pkcs11(%s:%s): ", n.service, n.kind) }

// destination is the first log that takes a record: the journal with its fields, syslog, and a file
// for what would be lost.
type destination struct {
	journal *journal
	syslog  *socket
	last    *lastFile
}

func (d *destination) write(level slog.Level, record []byte, fields []field) error {
	if d.journal.write(level, record, fields) == nil {
		return nil
	}

	// Warnings and refusals only: an ordinary record is not worth a file.
	err := d.syslog.write(level, record, fields)
	if err != nil && level >= slog.LevelWarn {
		err = errors.Join(err, d.last.write(record))
	}
	return err
}

// word bounds a name to what a syslog tag may hold, so that it cannot end the tag.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		isLetter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		isDigit := r >= '0' && r <= '9'
		if isLetter || isDigit || strings.ContainsRune("_.@-", r) {
			return r
		}
		return '_'
	}, s)

	if s == "" {
		return "pam"
	}
	return s[:min(len(s), 64)]
}

// socket writes records to a syslog socket, of datagrams or of a stream.
type socket struct {
	path   string
	prefix string
	now    func() time.Time

	// mu guards the fields below.
	mu     sync.Mutex
	conn   net.Conn
	stream bool
	slow   bool // the last record had to be given up: the next ones do not wait
}

// priority is severity and facility (RFC 3164 section 4.1.1).
func priority(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return authpriv | 3
	case level >= slog.LevelWarn:
		return authpriv | 4
	case level >= slog.LevelInfo:
		return authpriv | 6
	default:
		return authpriv | 7
	}
}

func (s *socket) write(level slog.Level, record []byte, _ []field) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	text := fmt.Appendf(nil, "<%d>%s %s%s", priority(level), s.now().Format(time.Stamp), s.prefix,
		record)
	if len(text) > MaxLine {
		text = text[:MaxLine]
	}

	before := s.conn
	err := s.send(text)

	// syslogd was started anew: its old socket is closed, and the new one may take the record.
	if err != nil && before != nil && s.conn == nil && !s.slow {
		err = s.send(text)
	}
	return err
}

// send writes once. A connection that failed is closed; the next record opens another.
func (s *socket) send(text []byte) error {
	if err := s.open(); err != nil {
		return err
	}

	wait := maxWait
	if s.slow {
		wait = time.Millisecond
	}

	// On a stream records end with a NUL, as those of syslog(3).
	if s.stream {
		text = append(text, 0)
	}

	_ = s.conn.SetWriteDeadline(time.Now().Add(wait))
	_, err := s.conn.Write(text)
	// A log that does not read now may do so later: the connection stays, and waits are short.
	s.slow = errors.Is(err, os.ErrDeadlineExceeded)
	if err != nil && !s.slow {
		_ = s.conn.Close()
		s.conn = nil
	}
	return err
}

func (s *socket) open() error {
	if s.conn != nil {
		return nil
	}

	// The same two kinds of sockets, in the same order, as syslog(3).
	for _, network := range []string{"unixgram", "unix"} {
		d := net.Dialer{Timeout: maxWait / 2}
		conn, err := d.Dial(network, s.path)
		if err == nil {
			s.conn = conn
			s.stream = network == "unix"
			return nil
		}
		// EPROTOTYPE: the socket is there and of the other kind. Any other error is final.
		if !errors.Is(err, syscall.EPROTOTYPE) {
			break
		}
	}
	return fmt.Errorf("no system log at %s", s.path)
}
