package diagnosis

import (
	"encoding/json"
	"testing"

	"pam_pkcs11/internal/message"
)

func TestExitCode(t *testing.T) {
	for severity, want := range map[Severity]int{OK: 0, Note: 0, Warning: 1, Refusal: 2, "unknown": 3} {
		if got := (Findings{{Severity: OK}, {Severity: severity}, {Severity: Note}}).ExitCode(); got != want {
			t.Errorf("%s: %d, not %d", severity, got, want)
		}
	}
	if got := (Findings)(nil).ExitCode(); got != 0 {
		t.Errorf("nothing found: %d", got)
	}
}

func TestJSON(t *testing.T) {
	encoded, err := json.Marshal(Finding{
		ID: "daemon-missing", Severity: Refusal, Subject: "/run/pcscd/pcscd.comm", Fact: message.Textf("no daemon listens"),
	})
	const want = `{"id":"daemon-missing","severity":"refusal","subject":"/run/pcscd/pcscd.comm","fact":"no daemon listens"}`
	if err != nil || string(encoded) != want {
		t.Errorf("%s %v", encoded, err)
	}
}
