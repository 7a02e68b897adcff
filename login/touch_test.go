package login

import (
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/config"
	"pam_pkcs11/po"
	"pam_pkcs11/token"
)

// TestTouchIsAskedForWhenASignatureTakesLong: PAM_SILENT does not keep it back, since the user has to act.
func TestTouchIsAskedForWhenASignatureTakesLong(t *testing.T) {
	advice, now := []string{"T " + MsgTouch}, []string{"T " + MsgTouchNow, "W 1m0s", "W 0s"}
	tests := map[string]struct {
		takes time.Duration
		use   token.KeyUse
		quiet bool
		want  []string
	}{
		"a quick card":                       {takes: time.Second},
		"a token that waits":                 {takes: 10 * time.Second, want: advice},
		"a token that waits, at the keypad":  {takes: 10 * time.Second, use: token.KeyUse{PINAgain: true}},
		"a token that waits, quiet":          {takes: 10 * time.Second, quiet: true},
		"a key that never wants a touch":     {takes: 10 * time.Second, use: token.KeyUse{Touch: token.TouchNever}},
		"a key that was touched before":      {takes: 900 * time.Millisecond, use: token.KeyUse{Touch: token.TouchCached}},
		"a key that was not touched before":  {takes: 1100 * time.Millisecond, use: token.KeyUse{Touch: token.TouchCached}, want: advice},
		"a key that always wants a touch":    {takes: time.Millisecond, use: token.KeyUse{Touch: token.TouchAlways}, want: now},
		"a key that always wants one, quiet": {use: token.KeyUse{Touch: token.TouchAlways}, quiet: true, want: now[1:]},
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
					text: &po.Catalog{},
					log:  slog.New(slog.DiscardHandler),
				}

				done := at.signing(t.Context(), tt.use)
				time.Sleep(tt.takes)
				done()
				time.Sleep(time.Minute)
				if !slices.Equal(who.events, tt.want) {
					t.Errorf("%q, want %q", who.events, tt.want)
				}
			})
		})
	}
}
