package pcsc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// awaitLine waits until the log has a line with all of the words, and gives it.
func awaitLine(t *testing.T, log *slowtest.Buffer, words ...string) string {
	t.Helper()
	var found string
	if !slowtest.Poll(20*time.Second, time.Millisecond, func() bool {
		for line := range strings.Lines(log.String()) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				found = line
				return true
			}
		}
		return false
	}) {
		t.Fatalf("no line with %q in\n%s", words, log.String())
	}
	return found
}

// TestWhoHasTheReader: each kind of refusal, and a long wait, is a line of the log with both programs, once.
func TestWhoHasTheReader(t *testing.T) {
	log := &slowtest.Buffer{}
	w := newServerWorld(t, settings{notify: true, options: resmgr.Options{Logger: slog.New(slog.NewTextHandler(log, nil))}})
	w.insert(&pcsctest.EchoCard{})
	self := fmt.Sprintf("pid %d (pcsc.test) uid %d", os.Getpid(), os.Getuid())

	shared := w.connect(pcsc.ShareShared)
	for range 10 {
		_, err := w.establish().Connect(w.reader, pcsc.ShareExclusive, pcsc.ProtocolAny)
		expect(t, "exclusive beside shared", err, pcsc.ErrSharingViolation)
	}
	line := awaitLine(t, log, "refused the reader", "mode=shared")
	if strings.Count(line, self) != 2 || !strings.Contains(line, w.reader) {
		t.Errorf("the line does not name the reader, who asks and who has it: %s", line)
	}

	expect(t, "begin", shared.BeginTransaction(), 0)
	other := make(chan *pcsc.Card, 1)
	go func() {
		card, err := w.establish().Connect(w.reader, pcsc.ShareShared, pcsc.ProtocolAny)
		if err != nil {
			t.Error(err)
		}
		other <- card
	}()
	if line := awaitLine(t, log, "waits for the transaction"); strings.Count(line, self) != 2 {
		t.Errorf("the line does not name both: %s", line)
	}
	expect(t, "end", shared.EndTransaction(pcsc.LeaveCard), 0)
	expect(t, "disconnect", (<-other).Disconnect(pcsc.LeaveCard), 0)

	expect(t, "exclusive", shared.Reconnect(pcsc.ShareExclusive, pcsc.ProtocolAny, pcsc.LeaveCard), 0)
	if n := strings.Count(log.String(), "refused the reader"); n != 1 {
		t.Errorf("%d refusals are in the log:\n%s", n, log.String())
	}
	expect(t, "disconnect", shared.Disconnect(pcsc.LeaveCard), 0)
	exclusive := w.connect(pcsc.ShareExclusive)
	awaitLine(t, log, "has the reader for itself", self)
	expect(t, "disconnect", exclusive.Disconnect(pcsc.LeaveCard), 0)
}

// nobody is an Authorizer that lets nobody in.
type nobody struct{}

func (nobody) Service(context.Context, resmgr.Peer) error      { return errors.New("not you") }
func (nobody) Card(context.Context, resmgr.Peer, string) error { return nil }

// TestRefusalsAreOneLine: a program that is refused again and again does not fill the log.
func TestRefusalsAreOneLine(t *testing.T) {
	log := &slowtest.Buffer{}
	options := resmgr.Options{Logger: slog.New(slog.NewTextHandler(log, nil))}
	w := newServerWorld(t, settings{notify: true, options: options, auth: nobody{}})
	for range 30 {
		if _, err := pcsc.NewContext(w.service); err != pcsc.ErrSecurityViolation {
			t.Fatalf("not refused: %v", err)
		}
	}
	awaitLine(t, log, "access refused", "not you", "repeated=0")
	if n := strings.Count(log.String(), "access refused"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}
