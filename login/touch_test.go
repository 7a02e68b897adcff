package login

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/config"
)

// TestTouchIsAskedForWhenASignatureTakesLong: PAM_SILENT does not keep it back, since the user has to act.
func TestTouchIsAskedForWhenASignatureTakesLong(t *testing.T) {
	advice := []string{"T " + MsgTouch}
	tests := map[string]struct {
		takes  time.Duration
		silent bool // of hintTouch
		quiet  bool
		want   []string
	}{
		"a quick card":                      {time.Second, false, false, nil},
		"a token that waits":                {10 * time.Second, false, false, advice},
		"a token that waits, at the keypad": {10 * time.Second, true, false, nil},
		"a token that waits, quiet":         {10 * time.Second, false, true, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				who := &person{}
				at := &attempt{
					a:    &Authenticator{},
					req:  Request{Silent: true},
					conf: &config.Config{Global: config.Global{Quiet: tt.quiet}},
					conv: who,
					log:  slog.New(slog.DiscardHandler),
				}
				hint := at.hintTouch(t.Context(), tt.silent)
				time.Sleep(tt.takes)
				hint.stop()
				time.Sleep(time.Minute)
				if !slices.Equal(who.events, tt.want) {
					t.Errorf("%q, want %q", who.events, tt.want)
				}
			})
		})
	}
}
