package login

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"pam_pkcs11/internal/secret"
)

// watcher notes whether anything was asked, and lets the network know.
type watcher struct {
	evening
	asked int
	first func()
}

func (w *watcher) Prompt(ctx context.Context, text string) (*secret.PIN, error) {
	w.asked++
	w.first()
	return w.evening.Prompt(ctx, text)
}

// silence takes connections and says nothing, until it is broken.
type silence struct {
	net.Listener
	broken chan struct{}
	end    func()
}

func newSilence(t *testing.T) *silence {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silence{Listener: l, broken: make(chan struct{})}
	s.end = sync.OnceFunc(func() {
		close(s.broken)
		_ = l.Close()
	})
	t.Cleanup(s.end)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				<-s.broken
				_ = c.Close()
			}()
		}
	}()
	return s
}

// TestSkipAsksBesideASlowNetwork: the responder does not answer. The user is asked for his PIN
// meanwhile, and so is nobody for somebody else's, however long it takes.
func TestSkipAsksBesideASlowNetwork(t *testing.T) {
	for _, tt := range []struct {
		user  string
		asked int
		want  Outcome
	}{
		{"alice", 1, RevocationUnknown},
		{"bob", 0, ForeignCardSkipped},
	} {
		t.Run(tt.user, func(t *testing.T) {
			network := newSilence(t) // until the prompt is there: the test would take as long as verify_timeout
			d := newDesk(t, time.Hour, "foreign_card = skip; verify_timeout = 60;")
			d.policy("cert_policy = ca, signature, ocsp_on; ocsp_url = http://" + network.Addr().String() + "/;")
			user := &watcher{evening: evening{answers: []string{latePIN}}, first: network.end}
			a := d.authenticator()
			a.Now = nil // the network's deadlines are real
			_, err := a.Authenticate(t.Context(), Request{User: tt.user, Args: d.request.Args}, user)

			var r *Refusal
			if !errors.As(err, &r) || r.Outcome != tt.want || r.Class() != ClassUnavailable {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if user.asked != tt.asked || d.calls("C_Login") != 0 {
				t.Errorf("%d questions, want %d; %d PINs sent", user.asked, tt.asked, d.calls("C_Login"))
			}
		})
	}
}
