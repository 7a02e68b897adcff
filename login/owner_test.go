//go:build cgo

package login

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"pam_pkcs11/internal/secret"
)

// watcher notes whether anything was asked.
type watcher struct {
	evening
	asked int
}

func (w *watcher) Prompt(ctx context.Context, text string) (*secret.PIN, error) {
	w.asked++
	return w.evening.Prompt(ctx, text)
}

// TestSkipAsksBesideASlowNetwork: the responder does not answer. The user is asked for his PIN
// meanwhile, and so is nobody for somebody else's, however long it takes.
func TestSkipAsksBesideASlowNetwork(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	fault := builtFault(t)

	for _, tt := range []struct {
		user  string
		asked int
		want  Outcome
	}{
		{"alice", 1, RevocationUnknown},
		{"bob", 0, ForeignCardSkipped},
	} {
		t.Run(tt.user, func(t *testing.T) {
			d := newDesk(t, fault, time.Hour, "foreign_card = skip; verify_timeout = 2;")
			d.policy("cert_policy = ca, signature, ocsp_on; ocsp_url = http://" + silent.Addr().String() + "/;")
			user := &watcher{evening: evening{answers: []string{latePIN}}}
			a := d.authenticator()
			a.Now = nil // the network's deadlines are real
			_, err := a.Authenticate(t.Context(), Request{User: tt.user, Args: d.args}, user)

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
