package verify_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/testca"
	"pam_pkcs11/verify"
)

// TestAnchorsAreListed: which certificates of ca_dir end chains, what they may issue, and which of them cannot be used now.
func TestAnchorsAreListed(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	good := testca.NewRoot("Good", testca.Validity(now.AddDate(-1, 0, 0), now.AddDate(9, 0, 0)))
	soon := testca.NewRoot("Soon", testca.Validity(now.AddDate(-1, 0, 0), now.AddDate(0, 0, 9)))
	old := testca.NewRoot("Old", testca.Validity(now.AddDate(-9, 0, 0), now.AddDate(-1, 0, 0)))
	future := testca.NewRoot("Future", testca.Validity(now.AddDate(1, 0, 0), now.AddDate(9, 0, 0)))
	card := testca.SelfSigned("Card", testca.Validity(now.AddDate(-1, 0, 0), now.AddDate(9, 0, 0)))
	sub := good.Intermediate("Sub", testca.Validity(now.AddDate(-1, 0, 0), now.AddDate(9, 0, 0)))

	dir := privateDir(t)
	for name, pem := range map[string][]byte{
		"good": good.PEM(), "soon": soon.PEM(), "old": old.PEM(), "future": future.PEM(), "card": card.PEM(), "sub": sub.PEM(),
	} {
		write(t, filepath.Join(dir, name), pem, 0o644)
	}
	v, err := verify.New(verify.Options{CADir: dir, Policy: verify.Policy{CA: true}, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}

	found := map[string]verify.Anchor{}
	for _, a := range v.Anchors() {
		found[filepath.Base(a.Path)] = a
	}
	for name, want := range map[string]struct {
		authority bool
		problem   string
	}{
		"good":   {true, ""},
		"soon":   {true, ""},
		"old":    {true, "not valid after"},
		"future": {true, "not valid before"},
		"card":   {false, ""},
	} {
		a, there := found[name]
		if !there || a.Authority != want.authority || (a.Problem == nil) != (want.problem == "") {
			t.Errorf("%s: there %v, %+v", name, there, a)
			continue
		}
		if a.Problem != nil && !strings.Contains(a.Problem.Error(), want.problem) {
			t.Errorf("%s: %v, want %q", name, a.Problem, want.problem)
		}
	}
	if len(found) != 5 {
		t.Errorf("%d anchors: %v", len(found), found)
	}

	dated := map[string]string{}
	for _, f := range v.DateFindings(30 * 24 * time.Hour) {
		dated[filepath.Base(f.Path)] = f.Text
	}
	for name, part := range map[string]string{"soon": "is soon over", "old": "is not valid after", "future": "is not valid before"} {
		if !strings.Contains(dated[name], part) {
			t.Errorf("%s: %q, want %q", name, dated[name], part)
		}
	}
	if len(dated) != 3 {
		t.Errorf("dates of %v", dated)
	}
}
