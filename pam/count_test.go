package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/login"
)

// TestCount: root's worker adds a login to the file; one that cannot be counted leaves a line in the log.
func TestCount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root's logins are counted")
	}
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	file := filepath.Join(t.TempDir(), "x.prom")
	e := login.Ended{MetricsFile: file, Service: "sudo", Class: "granted", Reason: "success", Took: time.Second}

	count(logger, e)
	if text, err := os.ReadFile(file); err != nil || log.Len() != 0 ||
		!strings.Contains(string(text), `{service="sudo",outcome="granted",reason="success"} 1`) {
		t.Errorf("%v, %s:\n%s", err, log.String(), text)
	}

	e.MetricsFile = "/nonexistent/x.prom"
	count(logger, e)
	if !strings.Contains(log.String(), "the login was not counted") {
		t.Errorf("the log has %q", log.String())
	}
}
