package login

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pam_pkcs11/mapper"
)

// TestDirectoryUnavailable: a directory that could not be asked has a message of its own, whose card it may be.
func TestDirectoryUnavailable(t *testing.T) {
	down := fmt.Errorf("%w: mapper ldap: %w: no LDAP server answers", mapper.ErrNoMatch, mapper.ErrUnavailable)
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		user string
		err  error
		want Outcome
	}{
		"a user is given":         {context.Background(), "alice", down, DirectoryUnavailable},
		"the card names the user": {context.Background(), "", down, DirectoryUnavailable},
		"the time is over":        {over, "alice", down, DeadlinePassed},
		"somebody else's card":    {context.Background(), "alice", mapper.ErrNoMatch, ForeignCard},
		"a fault":                 {context.Background(), "alice", errors.New("x"), InternalFault},
	} {
		t.Run(name, func(t *testing.T) {
			a := &attempt{conf: parse(t, "cert_policy = ca;"), req: Request{User: c.user}}
			r := a.mapRefusal(c.ctx, a.conf, c.err)
			if r.Outcome != c.want || !errors.Is(r, c.err) {
				t.Errorf("%v", r)
			}
		})
	}
	o := DirectoryUnavailable
	strict := Answer{ClassInsufficient, MsgDirectoryUnavailable}
	if o.Answer(ModeRefuse) != strict || o.String() != "directory_unavailable" || !o.allowsNextCard() {
		t.Errorf("%s: %v", o, o.Answer(ModeRefuse))
	}
	for _, less := range []Outcome{ForeignCard, NoMatchingCertificate, RevocationUnknown} {
		if refusalRank(less) >= refusalRank(DirectoryUnavailable) {
			t.Errorf("%s tells more", less)
		}
	}
}
