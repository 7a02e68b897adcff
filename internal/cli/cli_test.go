package cli

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func TestExit(t *testing.T) {
	plain := errors.New("no card")
	tests := map[string]struct {
		err  error
		code int
		said string
	}{
		"all is well":                 {nil, OK, ""},
		"a failure":                   {plain, Failure, "prog: no card\n"},
		"a code of its own":           {&Error{Config, plain}, Config, "prog: no card\n"},
		"a code behind other words":   {fmt.Errorf("reading: %w", &Error{NoPerm, plain}), NoPerm, "prog: reading: no card\n"},
		"all has been said":           {&Error{Failure, nil}, Failure, ""},
		"called in an unknown manner": {&Error{Usage, errors.New("unknown command")}, Usage, "prog: unknown command\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := Exit(&stderr, "prog", tt.err); code != tt.code {
				t.Errorf("code %d, want %d", code, tt.code)
			}
			if stderr.String() != tt.said {
				t.Errorf("said %q, want %q", stderr.String(), tt.said)
			}
		})
	}
}

func TestTheCauseIsKept(t *testing.T) {
	cause := errors.New("cause")
	if !errors.Is(&Error{Failure, cause}, cause) {
		t.Error("errors.Is does not find the cause")
	}
}
