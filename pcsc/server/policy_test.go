package server_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pam_pkcs11/pcsc/resmgr"
	"pam_pkcs11/pcsc/server"
)

// people are who the tables below speak of.
var (
	root     = resmgr.Peer{PID: 1, UID: 0}
	sitting  = resmgr.Peer{PID: 2, UID: 1000, GID: 100, Groups: []uint32{100, 27}}
	remote   = resmgr.Peer{PID: 3, UID: 1001, GID: 100}
	byUser   = []string{"alice"}
	byUID    = []string{"1001"}
	byGroups = []string{"27"}
)

func TestPolicy(t *testing.T) {
	broken := errors.New("no bus")
	for _, row := range []struct {
		name      string
		rules     server.Rules
		who       resmgr.Peer
		logind    error
		polkit    string // what it answers: yes, no, error; "" it must not be asked
		refusal   string // "" is allowed
		forReader string
	}{
		{name: "root, always", rules: server.Rules{Allow: server.AllowNone}, who: root},
		{name: "root, polkit or not", rules: server.Rules{Allow: server.AllowNone, Polkit: true}, who: root},
		{name: "who sits there", rules: server.Rules{Allow: server.AllowLocal}, who: sitting},
		{name: "who does not", rules: server.Rules{Allow: server.AllowLocal}, who: remote,
			refusal: `uid 1001 has no active local session: a line "user = 1001", "group = 100" or "allow = all"`},
		{name: "logind does not answer", rules: server.Rules{Allow: server.AllowLocal}, who: sitting, logind: broken,
			refusal: `logind cannot be asked (no bus): a line "user = 1000"`},
		{name: "everybody", rules: server.Rules{Allow: server.AllowAll}, who: remote},
		{name: "nobody", rules: server.Rules{Allow: server.AllowNone}, who: sitting, refusal: `a line "user = 1000" would allow it`},
		{name: "a rule that is not set refuses", rules: server.Rules{}, who: remote, refusal: "no active local session"},
		{name: "named", rules: server.Rules{Allow: server.AllowNone, Users: byUser}, who: sitting},
		{name: "another is named", rules: server.Rules{Allow: server.AllowNone, Users: byUser}, who: remote, refusal: "allow = none"},
		{name: "named by number", rules: server.Rules{Allow: server.AllowNone, Users: byUID}, who: remote},
		{name: "a supplementary group", rules: server.Rules{Allow: server.AllowNone, Groups: byGroups}, who: sitting},
		{name: "not in the group", rules: server.Rules{Allow: server.AllowNone, Groups: byGroups}, who: remote, refusal: "allow = none"},
		{name: "a primary group by name", rules: server.Rules{Allow: server.AllowNone, Groups: []string{"users"}}, who: remote},
		{name: "names that nobody has", rules: server.Rules{Allow: server.AllowNone, Users: []string{"bob"}, Groups: []string{"x"}}, who: remote, refusal: "allow = none"},
		{name: "polkit says yes", rules: server.Rules{Allow: server.AllowNone, Polkit: true}, who: remote, polkit: "yes"},
		{name: "polkit says no", rules: server.Rules{Allow: server.AllowAll, Polkit: true}, who: sitting, polkit: "no",
			refusal: "polkit refuses org.debian.pcsc-lite.access_pcsc"},
		{name: "polkit does not answer", rules: server.Rules{Polkit: true}, who: sitting, polkit: "error",
			refusal: "polkit cannot be asked for org.debian.pcsc-lite.access_pcsc (no bus)"},
		{name: "named, and polkit is not asked", rules: server.Rules{Polkit: true, Users: byUser}, who: sitting},
		{name: "a reader, without polkit", rules: server.Rules{Allow: server.AllowLocal}, who: remote, forReader: "R 00 00"},
		{name: "a reader, by polkit", rules: server.Rules{Polkit: true}, who: remote, forReader: "R 00 00", polkit: "no",
			refusal: "polkit refuses org.debian.pcsc-lite.access_card"},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked := false
			p := &server.Policy{Rules: row.rules,
				ActiveLocally: func(_ context.Context, uid uint32) (bool, error) { return uid == 1000, row.logind },
				Polkit: func(_ context.Context, _ resmgr.Peer, action string, details map[string]string) (bool, error) {
					asked = true
					if (details["reader"] == "R 00 00") != (row.forReader != "") {
						t.Errorf("details %v", details)
					}
					if row.polkit == "error" {
						return false, broken
					}
					return row.polkit == "yes", nil
				},
				UserID:  func(name string) (uint32, error) { return 1000, found(name, "alice") },
				GroupID: func(name string) (uint32, error) { return 100, found(name, "users") },
			}
			var err error
			if row.forReader == "" {
				err = p.Service(t.Context(), row.who)
			} else {
				err = p.Card(t.Context(), row.who, row.forReader)
			}
			switch {
			case row.refusal == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.refusal != "" && (err == nil || !strings.Contains(err.Error(), row.refusal)):
				t.Errorf("%v, want %s", err, row.refusal)
			}
			if asked != (row.polkit != "") {
				t.Errorf("polkit asked: %v", asked)
			}
		})
	}
}

func found(name, want string) error {
	if name != want {
		return errors.New("unknown")
	}
	return nil
}

// Many connections of one user at once are one question to logind; its yes is believed for two seconds, its no is not
// kept.
func TestLogindIsAskedOnce(t *testing.T) {
	var questions atomic.Int64
	begun, answer := make(chan struct{}, 1), make(chan struct{})
	now := time.Unix(1000, 0)
	says := true
	p := &server.Policy{Rules: server.Rules{Allow: server.AllowLocal}, Now: func() time.Time { return now },
		ActiveLocally: func(context.Context, uint32) (bool, error) {
			questions.Add(1)
			select {
			case begun <- struct{}{}:
			default:
			}
			<-answer
			return says, nil
		}}
	var group sync.WaitGroup
	ask := func() {
		if err := p.Service(context.Background(), sitting); (err == nil) != says {
			t.Error(err)
		}
	}
	group.Go(ask)
	<-begun
	for range 20 {
		group.Go(ask)
	}
	impatient, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Service(impatient, sitting); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait: %v", err)
	}
	close(answer)
	group.Wait()
	ask()
	now = now.Add(3 * time.Second)
	says = false
	ask()
	ask()
	if n := questions.Load(); n < 3 || n > 4 { // the late ones of the crowd may have found the answer gone
		t.Errorf("%d questions", n)
	}
}
