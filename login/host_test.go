package login

import (
	"slices"
	"strings"
	"testing"

	"pam_pkcs11/internal/slowtest"
	"pam_pkcs11/login/logintest"
)

// listener is a Host that notes the order of events beside the calls of the library.
type listener struct {
	confirms bool
	delivery Delivery
	log      *slowtest.Buffer
	events   []string
}

func (l *listener) Confirms() bool { return l.confirms }

func (l *listener) Deliver(res *Result, err error) Delivery {
	l.note("deliver " + outcomeOf(err))
	return l.delivery
}

func (l *listener) Done() { l.note("done") }

// note writes down an event and what the log says by then.
func (l *listener) note(event string) {
	for _, line := range []string{"login granted", "verdict given", "login not granted", "login refused"} {
		if strings.Contains(l.log.String(), line) {
			event += ", logged: " + line
		}
	}
	l.events = append(l.events, event)
}

// TestTheAnswerComesBeforeTheLibrarysEnd, and the log says "granted" of nothing that was not.
func TestTheAnswerComesBeforeTheLibrarysEnd(t *testing.T) {
	const end, wrong = "C_Finalize", "pin_incorrect"
	for name, tt := range map[string]struct {
		host *listener
		pin  string
		want []string // C_Logout, the events, C_Finalize
	}{
		"taken": {&listener{confirms: true, delivery: Taken}, rightPIN, []string{
			"deliver granted", "done, logged: login granted", end + ", logged: login granted"}},
		"declined": {&listener{confirms: true, delivery: Declined}, rightPIN, []string{
			"deliver granted", "done, logged: login not granted", end + ", logged: login not granted"}},
		"the host has ended": {&listener{confirms: true, delivery: Lost}, rightPIN, []string{
			"deliver granted", "done, logged: login not granted", end + ", logged: login not granted"}},
		"the host is silent": {&listener{confirms: true, delivery: Unconfirmed}, rightPIN, []string{
			"deliver granted", "done, logged: verdict given", end + ", logged: verdict given"}},
		"a host that does not confirm": {&listener{delivery: Unconfirmed}, rightPIN, []string{
			"deliver granted, logged: verdict given", "done, logged: verdict given", end + ", logged: verdict given"}},
		"refused": {&listener{confirms: true, delivery: Taken}, otherPIN, []string{
			"deliver " + wrong + ", logged: login refused", "done, logged: login refused", end + ", logged: login refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTable(t, logintest.Object{})
			tt.host.log = new(slowtest.Buffer)
			d.host, d.log = tt.host, tt.host.log
			d.trace = func(call string) {
				if call == "C_Logout" || call == "C_Finalize" {
					tt.host.note(call)
				}
			}
			p := d.play(t, Request{User: "alice"}, &person{answers: []string{tt.pin}}, false, "")
			if tt.pin == rightPIN && tt.host.events[0] != "C_Logout" {
				t.Errorf("the card is not locked before the answer: %q", tt.host.events)
			}
			got := slices.DeleteFunc(tt.host.events, func(e string) bool { return strings.HasPrefix(e, "C_Logout") })
			if !slices.Equal(got, tt.want) {
				t.Errorf("events %q\nwant   %q\n%s", got, tt.want, p.log)
			}
		})
	}
}

// TestProgressNamesTheFunction: whoever finds the process dead learns where it was.
func TestProgressNamesTheFunction(t *testing.T) {
	d := newTable(t, logintest.Object{})
	seen := map[string]string{} // function: step
	d.progress = func(p Place) {
		if p.Function != "" {
			seen[p.Function] = p.Step
			if !strings.HasSuffix(p.Library, ".so") {
				t.Errorf("%s of %q", p.Function, p.Library)
			}
		}
	}
	d.play(t, Request{User: "alice"}, &person{answers: []string{rightPIN}}, false, "")
	for function, step := range map[string]string{"C_Initialize": stepLoad, "C_GetSlotList": stepCard, "C_OpenSession": stepRead,
		"C_Login": stepPIN, "C_Sign": stepProve, "C_Logout": stepLock, "C_Finalize": stepFinalize} {
		if seen[function] != step {
			t.Errorf("%s is called while %q, want %q", function, seen[function], step)
		}
	}
}
