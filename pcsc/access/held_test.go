package access

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pam_pkcs11/cmd/pcscd/daemon"
	"pam_pkcs11/pcsc"
	"pam_pkcs11/pcsc/pcsctest"
	"pam_pkcs11/pcsc/resmgr"
)

// complainer is a driver whose only reader another program has, until it is given back.
type complainer struct{ *pcsctest.Driver }

// Unusable says so.
func (complainer) Unusable() []string { return []string{"ACME Reader: in use by process 7 (scdaemon)"} }

// TestHeld: a bundled daemon without a reader, because another program has it, is an error that names both; a reader that
// can be used is enough.
func TestHeld(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the bundled daemon is for root")
	}
	for name, readers := range map[string][]pcsctest.Reader{
		"none":    nil,
		"another": {{ID: "1", Product: "Other", Slots: []*pcsctest.Slot{pcsctest.NewSlot(true)}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "access-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			socket := filepath.Join(dir, "comm")
			ready, said := make(chan struct{}), new(bytes.Buffer)
			p := daemon.Program{
				Name: "pcscd", Args: []string{"--foreground", "--socket", socket}, Env: func(string) string { return "" },
				Stdout: said, Stderr: said, Default: "fake", Ready: func() { close(ready) },
				Readers: []daemon.Readers{{Name: "fake", Usage: "fake", Plug: func(ctx context.Context, m *resmgr.Manager, _ string, _ *slog.Logger) (<-chan error, error) {
					return resmgr.Plug(ctx, m, complainer{pcsctest.NewDriver(readers...)}), nil
				}}},
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan int, 1)
			go func() { ended <- p.Run(ctx) }()
			defer func() {
				cancel()
				if code := <-ended; code != 0 {
					t.Errorf("the daemon ends with %d: %s", code, said)
				}
			}()
			select {
			case <-ready:
			case <-time.After(time.Minute):
				t.Fatal("the daemon is not ready")
			}

			_, found, err := find(t, Options{Mode: Bundled, BundledSocket: socket})
			if readers != nil {
				if err != nil || !found.Bundled {
					t.Errorf("%+v %v", found, err)
				}
				return
			}
			wants(t, err, Held, "ACME Reader: in use by process 7 (scdaemon)")
			if e, ok := err.(*Error); !ok || !e.Is(pcsc.ErrSharingViolation) {
				t.Errorf("%v is not SCARD_E_SHARING_VIOLATION", err)
			}
		})
	}
}
