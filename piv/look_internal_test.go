package piv

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pam_pkcs11/token"
)

// TestMoment: after a card that is enough, others that answer within a moment are still shown, and
// those that do not are left. Where none is enough, the bounds are those of Slots.
func TestMoment(t *testing.T) {
	never := time.Hour
	all := func(*token.Slot) bool { return true }
	for name, c := range map[string]struct {
		answers []time.Duration // by reader
		foreign []bool          // by reader: it is no PIV card; may be shorter
		enough  func(*token.Slot) bool
		took    time.Duration
		left    []bool // by reader
	}{
		"all answer":                    {[]time.Duration{300, 200}, nil, all, 300, []bool{false, false}},
		"one never does":                {[]time.Duration{never, 100}, nil, all, 300, []bool{true, false}},
		"one never does, none is liked": {[]time.Duration{600, 100}, nil, func(*token.Slot) bool { return false }, 600, []bool{false, false}},
		"nobody asks":                   {[]time.Duration{600, 100}, nil, nil, 600, []bool{false, false}},
		"a foreign one is not enough":   {[]time.Duration{600, 100}, []bool{false, true}, all, 600, []bool{false, false}},
		"counted from the first":        {[]time.Duration{400, 100, 250}, nil, all, 300, []bool{true, false, false}},
		"the liked one alone":           {[]time.Duration{never, 100, 500}, nil, func(s *token.Slot) bool { return s.ID == 2 }, 700, []bool{true, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var probes []*probe
				ended := make(chan *probe, len(c.answers))
				for i, after := range c.answers {
					if after != never {
						after *= time.Millisecond
					}
					ctx, cancel := context.WithCancelCause(t.Context())
					g := &probe{place: &place{slot: token.Slot{ID: uint(i)}}, cancel: cancel}
					probes = append(probes, g)
					go func() {
						select {
						case <-time.After(after):
							if i >= len(c.foreign) || !c.foreign[i] {
								g.place.slot.Token = &token.Info{}
							}
						case <-ctx.Done():
							g.place.slot.Err = context.Cause(ctx)
						}
						ended <- g
					}()
				}

				began := time.Now()
				await(probes, ended, c.enough)
				if took := time.Since(began); took != c.took*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				for i, g := range probes {
					if err := g.place.slot.Err; errors.Is(err, token.ErrPending) != c.left[i] {
						t.Errorf("reader %d: %v", i, err)
					}
					g.cancel(nil)
				}
			})
		})
	}
}
