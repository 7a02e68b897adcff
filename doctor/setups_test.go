package doctor

import (
	"testing"
	"time"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/setup/undo"
)

// TestSetups: what waits for a confirmation is a warning, also when nothing waits any more that would take it back.
func TestSetups(t *testing.T) {
	tr := newTree(t)
	m := tr.machine()
	want{"setups", diagnosis.OK, "no setup waits", ""}.in(t, run(t, m, "setups"))

	files, err := undo.OpenTree(tr.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	store := &undo.Store{Tree: files}
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	record, err := store.Begin(undo.Manifest{RevertAt: at}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want{"setup-cut-short", diagnosis.Warning, "setup 1 is under way", "undo"}.in(t, run(t, m, "setups"))

	if err := record.Finish(); err != nil {
		t.Fatal(err)
	}
	m.Now = func() time.Time { return at.Add(-time.Hour) }
	want{"setup-pending", diagnosis.Warning, "taken back at 2030-01-02 03:04:05", "setup --keep"}.in(t, run(t, m, "setups"))
	m.Now = func() time.Time { return at.Add(time.Hour) }
	want{"setup-overdue", diagnosis.Warning, "should have been taken back", "setup --keep"}.in(t, run(t, m, "setups"))

	if _, err := store.Keep(1); err != nil {
		t.Fatal(err)
	}
	want{"setups", diagnosis.OK, "no setup waits", ""}.in(t, run(t, m, "setups"))
	tr.put("/var/lib/pam_pkcs11/setup/1/manifest.json", "{")
	want{"setup-record", diagnosis.Warning, "cannot be read", "undo"}.in(t, run(t, m, "setups"))
}
