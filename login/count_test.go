package login

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLoginsAreCounted: where metrics_file is set, each login is told of once, after its answer, with the outcome that is
// in the log; a fault of whoever counts changes nothing.
func TestLoginsAreCounted(t *testing.T) {
	counted := `metrics_file = "DIR/x.prom";`
	for _, row := range []struct {
		ending
		class, reason string
	}{
		{good("granted", "alice"), "granted", "success"},
		{refusedPIN("wrong PIN", PINIncorrect, "").types(otherPIN), "auth_error", "pin_incorrect"},
		{refused("no card", "", NoCard, ""), "unavailable", "no_card"},
		{refused("a hidden reason", "bob", ForeignCard, "").with(func(e *ending) {
			e.global, e.rhost = "remote_login = allow; remote_login_hides = true;", "192.0.2.1"
		}), "auth_error", "foreign_card"},
	} {
		machine := time.Now()
		theDeck()
		synctest.Test(t, func(t *testing.T) {
			row.global += counted
			s := row.stageAt(t, machine)
			var told []Ended
			host := &answerFirst{}
			s.auth.Host = host
			s.auth.Ended = func(e Ended) {
				if !host.answered {
					t.Errorf("%s: counted before the answer", row.name)
				}
				told = append(told, e)
				panic("a fault")
			}
			_, _ = s.auth.Authenticate(s.context, s.request, s.user)
			s.check()
			if len(told) != 1 || told[0].Class != row.class || told[0].Reason != row.reason || told[0].MetricsFile != s.dir+"/x.prom" {
				t.Errorf("%s: told of %+v", row.name, told)
			}
			time.Sleep(time.Hour)
		})
	}

	quiet := good("without the key", "alice").stage(t)
	quiet.auth.Ended = func(Ended) { t.Error("a login is counted without metrics_file") }
	if _, err := quiet.auth.Authenticate(quiet.context, quiet.request, quiet.user); err != nil {
		t.Error(err)
	}
}

// answerFirst is a host that notes that it has its answer.
type answerFirst struct{ answered bool }

func (*answerFirst) Confirms() bool { return true }
func (*answerFirst) Done()          {}

func (h *answerFirst) Deliver(*Result, error) Delivery {
	h.answered = true
	return Taken
}
