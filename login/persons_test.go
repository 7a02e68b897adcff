package login

import (
	"context"
	"errors"
	"testing"

	"pam_pkcs11/internal/accounts"
)

// inhabited gives the machine accounts for alice and bob, and groups: alice and bob are staff, root and bob may break the
// glass.
func inhabited(s *stage) {
	s.auth.Accounts = people{"root": 0, "alice": 1000, "bob": 1001}
	s.auth.Groups = accounts.StaticGroups{
		"staff":      {GID: 50, Members: []string{"alice", "bob"}},
		"breakglass": {GID: 60, Members: []string{"root", "bob"}},
	}
}

// twoAccounts lets alice's certificate be bob's too.
func twoAccounts(s *stage) { s.write("two", "alice -> alice\nalice -> bob\n") }

// answered is a row in which the class of the answer is what matters.
type answered struct {
	ending
	class Class
}

// playAnswers plays rows, and compares what the stack is told.
func playAnswers(t *testing.T, rows []answered) {
	t.Helper()
	for _, row := range rows {
		row.happens = append([]happening{inhabited}, row.happens...)
		row.happens = append(row.happens, func(s *stage) { s.auth.Host = classHost{t, row.class} })
		t.Run(row.name, row.play)
	}
}

// classHost is a host that takes what it is told, and compares it.
type classHost struct {
	t    *testing.T
	want Class
}

func (h classHost) Confirms() bool { return true }
func (h classHost) Done()          {}

func (h classHost) Deliver(_ *Result, err error) Delivery {
	var r *Refusal
	got := ClassSuccess
	if errors.As(err, &r) {
		got = r.Class()
	}
	if got != h.want {
		h.t.Errorf("the stack is told %s, want %s", classNames[got], classNames[h.want])
	}
	return Taken
}

// untouched: nothing at all was asked of the cards.
func untouched(s *stage) {
	s.t.Cleanup(func() {
		if calls := s.readers.Calls(); len(calls) > 0 {
			s.t.Errorf("the card was touched: %q", calls)
		}
	})
}

// TestWhoMust: each refusal ends the stack, also where there is no card, and the right card logs in as ever.
func TestWhoMust(t *testing.T) {
	must := "card_required_groups = staff; "
	row := func(e ending, class Class) answered {
		e.global = must + e.global
		return answered{e, class}
	}
	wrong := refusedPIN("wrong PIN", PINIncorrect, "2320").types(otherPIN)
	wrong.said = asked("alice", fewTries, "E Error 2320")

	playAnswers(t, []answered{
		row(good("the right card", "alice"), ClassSuccess),
		row(refused("no card", "", NoCard, "2422").with(func(e *ending) { e.log = `required_by="card_required_groups has \"staff\""` }), ClassInsufficient),
		row(refused("no service for readers", "no reader", NoCard, "2386"), ClassInsufficient),
		row(refused("somebody else's card", "bob", ForeignCard, "2358"), ClassInsufficient),
		row(refused("unknown CA", "stranger", IssuerUnknown, "2354"), ClassInsufficient),
		row(refused("PIN locked", "alice", PINLocked, "2346").happening(locked), ClassInsufficient),
		row(wrong, ClassInsufficient),
		row(refusedPIN("the card is pulled", CardRemoved, "2368", during(pulled)).with(func(e *ending) { e.pins = 0 }), ClassInsufficient),
		row(refused("the library is broken", "alice", LibraryNotInitialised, "2304").happening(fails("C_GetSlotList", errors.New("broken"))), ClassInsufficient),
		row(refused("from another host", "alice", RemoteRefused, "2424").with(func(e *ending) { e.rhost = "example.org" }), ClassInsufficient),
		row(refused("foreign_card = skip changes nothing", "bob", ForeignCard, "2358").with(func(e *ending) { e.global = "foreign_card = skip;" }), ClassInsufficient),
		row(refused("nor does the argument", "bob", ForeignCard, "2358").with(func(e *ending) { e.args = []string{"skip_foreign"} }), ClassInsufficient),
		row(refusedPIN("an empty PIN is no way out", PINEmpty, "2318").types("").with(func(e *ending) {
			e.args, e.pins = []string{"empty_pin=fallback"}, 0
		}), ClassInsufficient),
		row(refused("nor is a screen saver's list", "", NoCard, "2422").with(func(e *ending) {
			e.global, e.service = "card_only = true; screen_savers = locker;", "locker"
		}), ClassInsufficient),
		row(refused("a group that is not there", "", NoCard, "2422").with(func(e *ending) {
			e.global, e.log = "card_forbidden_groups = nosuch;", "no such group"
			e.user = "root"
		}), ClassInsufficient),
		row(refused("no name, and no card", "", NoCard, "2422").with(func(e *ending) { e.user = "" }), ClassInsufficient),
		row(good("no name", "alice").with(func(e *ending) { e.user, e.login = "", "alice" }), ClassSuccess),
	})
}

// TestWhoMustNot: the stack goes on, nothing is said, and the card is not touched.
func TestWhoMustNot(t *testing.T) {
	not := func(name, lists string) answered {
		e := ending{name: name, card: "bob", user: "bob", answers: rightAnswer, want: CardForbidden, global: lists}
		return answered{e.happening(untouched), ClassUnavailable}
	}
	playAnswers(t, []answered{
		not("by name", "card_forbidden_users = bob;"),
		not("by group", "card_forbidden_groups = breakglass; card_others = required;"),
		not("all others", "card_forbidden_groups = breakglass; card_others = forbidden;"),
		not("under card_only", "card_forbidden_users = bob; card_only = true; wait_for_card = true;"),
		not("before may", "card_forbidden_users = bob; card_optional_groups = staff;"),
	})
}

// TestWhoMay: a card is one way of several, whatever the rest of the file says.
func TestWhoMay(t *testing.T) {
	may := func(e ending) ending {
		e.global = "card_optional_groups = staff; card_only = true; " + e.global
		return e
	}
	playAnswers(t, []answered{
		{may(good("the right card", "alice")), ClassSuccess},
		{may(refused("no card", "", NoCard, "")), ClassUnavailable},
		{may(refused("somebody else's card", "bob", ForeignCardSkipped, "")), ClassUnavailable},
		{may(refused("expired", "expired", CertificateExpired, "2324")), ClassInsufficient},
		{may(refused("root is not of the group", "", NoCard, "2308").with(func(e *ending) { e.user = "root" })), ClassUnavailable},
	})
}

// TestCardNamesTheUser: with no name given, what holds for the user is decided once the card has named him, before its
// PIN is asked for.
func TestCardNamesTheUser(t *testing.T) {
	nameless := func(e ending) ending {
		e.user = ""
		return e
	}
	playAnswers(t, []answered{
		{nameless(refused("must not", "bob", CardForbidden, "2426").with(func(e *ending) {
			e.global = "card_forbidden_users = bob;"
		})), ClassUnavailable},
		{nameless(refused("must not, and others must", "bob", CardForbidden, "2426").with(func(e *ending) {
			e.global = "card_forbidden_users = bob; card_required_users = alice;"
		})), ClassInsufficient},
		{nameless(good("another card", "alice")).with(func(e *ending) {
			e.global, e.login = "card_forbidden_users = bob;", "alice"
		}), ClassSuccess},
		{nameless(good("of two accounts one must not", "alice")).with(func(e *ending) {
			e.global, e.login = "card_forbidden_users = alice; use_mappers = cn; mapper cn { mapfile = file://DIR/two; }", "bob"
			e.happens = []happening{twoAccounts}
		}), ClassSuccess},
		{nameless(ending{
			name: "a card that hides its certificates is asked for its PIN first", card: "bob", answers: rightAnswer,
			global: "card_forbidden_users = bob;", want: CardForbidden, pins: 1, said: asked("bob", "T Checking the certificate", "E Error 2426"),
			happens: []happening{hides},
		}), ClassUnavailable},
	})
}

// TestFailClosed: a fault of the module itself ends the stack where the argument asks for it; what is no fault does not.
func TestFailClosed(t *testing.T) {
	closed := func(e ending, class Class) answered {
		e.args = []string{"fail_closed"}
		return answered{e, class}
	}
	playAnswers(t, []answered{
		closed(refused("an error in the configuration", "alice", ConfigurationInvalid, "2364").with(func(e *ending) { e.global = "no_such_key = 1;" }), ClassInsufficient),
		closed(refused("an unknown argument", "alice", ConfigurationInvalid, "2364").with(func(e *ending) { e.global = "" }), ClassInsufficient).unknown(),
		closed(refused("no time left", "alice", DeadlinePassed, "2362").happening(hangs("C_GetSlotList")), ClassInsufficient),
		closed(refused("no card", "", NoCard, ""), ClassUnavailable),
		closed(ending{name: "must not", card: "bob", user: "bob", want: CardForbidden, global: "card_forbidden_users = bob;"}, ClassUnavailable),
		{refused("an error in the configuration, without it", "alice", ConfigurationInvalid, "2364").with(func(e *ending) { e.global = "no_such_key = 1;" }), ClassUnavailable},
	})
}

// unknown adds an argument that the module does not know.
func (a answered) unknown() answered {
	a.args = append(a.args, "no_such_argument")
	return a
}

// TestNobodyElseIsAskedFor: without lists no name service is asked, and nobody is told to wait.
func TestNobodyElseIsAskedFor(t *testing.T) {
	e := good("no lists", "alice")
	e.happens = []happening{func(s *stage) { s.auth.Groups = nil; s.auth.Accounts = people{"alice": 1000} }}
	e.play(t)
}

// TestChangeForWhoMustNot: passwd goes on to the password, and the card is not touched.
func TestChangeForWhoMustNot(t *testing.T) {
	e := ending{card: "bob", user: "bob", global: "card_forbidden_users = bob;"}
	s := e.stage(t)
	inhabited(s)
	err := s.auth.ChangePIN(context.Background(), s.request, ChangeFlags{}, s.user)
	var r *Refusal
	if !errors.As(err, &r) || r.Outcome != ChangeNotOurs {
		t.Errorf("%v", err)
	}
	if calls := s.readers.Calls(); len(calls) > 0 || len(s.user.heard("W")) > 0 {
		t.Errorf("calls %q, said %q", calls, s.user.heard("W"))
	}
}

// TestServiceBlock: a block holds for its service alone.
func TestServiceBlock(t *testing.T) {
	block := "foreign_card = skip; service sudo, su { foreign_card = refuse; card_required_users = alice; }"
	for service, want := range map[string]Class{"sudo": ClassInsufficient, "SU": ClassInsufficient, "login": ClassUnavailable, "": ClassUnavailable} {
		e := refused("service "+service, "", NoCard, "")
		if want == ClassInsufficient {
			e.said = []string{"E Error 2422"}
		}
		e.global, e.service = block, service
		playAnswers(t, []answered{{e, want}})
	}
}
