package logs

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fieldPrefix is that of our fields in the journal, as in PAM_PKCS11_USER.
const fieldPrefix = "PAM_PKCS11_"

// Bounds of the fields of one record: the journal takes names of at most 64 characters.
const (
	maxFields    = 32
	maxFieldName = 64
	maxField     = MaxLine // octets of a value
)

// journal writes records to journald, each attribute as a field of its own too.
type journal struct {
	path  string // "" is none
	names names

	// mu guards the fields below.
	mu   sync.Mutex
	conn net.Conn
	off  bool // it did not take a record: the next ones go to syslog at once
}

var errNoJournal = errors.New("no journal")

func (j *journal) write(level slog.Level, record []byte, fields []field) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.path == "" || j.off {
		return errNoJournal
	}
	err := j.send(j.encode(level, record, fields))
	j.off = err != nil
	return err
}

func (j *journal) send(datagram []byte) error {
	if j.conn == nil {
		conn, err := net.DialTimeout("unixgram", j.path, maxWait/2)
		if err != nil {
			return err
		}

		// Kept for the next record: a login writes several.
		j.conn = conn
	}

	if err := j.conn.SetWriteDeadline(time.Now().Add(maxWait)); err != nil {
		return err
	}

	_, err := j.conn.Write(datagram)
	return err
}

// encode writes a record in the native protocol. The message is the line that syslog would have.
func (j *journal) encode(level slog.Level, record []byte, fields []field) []byte {
	var b []byte
	b = appendField(b, "MESSAGE", j.names.words()+string(record))
	b = appendField(b, "PRIORITY", strconv.Itoa(priority(level)&7))
	b = appendField(b, "SYSLOG_FACILITY", strconv.Itoa(authpriv>>3))
	b = appendField(b, "SYSLOG_IDENTIFIER", j.names.service)
	b = appendField(b, "SYSLOG_PID", strconv.Itoa(j.names.pid))
	b = appendField(b, fieldPrefix+"SERVICE", j.names.service)
	b = appendField(b, fieldPrefix+"KIND", j.names.kind)

	// MESSAGE holds them all: a record with many fields loses none.
	for i, f := range fields {
		if i == maxFields {
			break
		}
		if name := fieldName(f.key); name != "" {
			b = appendField(b, name, f.value)
		}
	}
	return b
}

// fieldName is a key as the journal has names: capitals, digits and underscores. "" is none that it
// would take.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		}
		return '_'
	}, key)

	if name == "" || len(name) > maxFieldName-len(fieldPrefix) {
		return ""
	}
	return fieldPrefix + name
}

// appendField adds one field in the form with a length: no value can end it early.
func appendField(b []byte, name, value string) []byte {
	value = value[:min(len(value), maxField)]
	b = append(b, name...)
	b = append(b, '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	b = append(b, value...)
	return append(b, '\n')
}
