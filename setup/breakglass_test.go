package setup

import (
	"context"
	"errors"
	"strings"
	"testing"

	"pam_pkcs11/doctor"
	"pam_pkcs11/internal/secret"
	"pam_pkcs11/setup/internal/pamlogin"
)

// passwords is a rehearsal in which some get in, by the made password of their order.
type passwords struct {
	in    map[string]bool // by "SERVICE USER"
	asked []string
}

func (p *passwords) login(_ context.Context, o order, answer answerer) (*pamlogin.End, error) {
	p.asked = append(p.asked, o.Service+" "+o.User)
	end := &pamlogin.End{Auth: 7, Account: -1, User: o.User, Said: []string{"Password: "}}
	if pin, err := answer(pamlogin.Asked{Text: "Smart card PIN: ", Secret: true}); err != nil || pin.Len() > 0 {
		return nil, errors.New("something was sent to the card")
	}
	password, err := answer(pamlogin.Asked{Text: "Password: ", Secret: true})
	if err == nil && p.in[o.Service+" "+o.User] && string(password.Bytes()) == o.Password {
		end.Auth, end.Account = 0, 0
	}
	return end, nil
}

// TestBreakGlass: at each service one member gets in, or the change is refused.
func TestBreakGlass(t *testing.T) {
	bob, root := doctor.Member{Name: "bob", UID: 1000}, doctor.Member{Name: "root"}
	for name, tt := range map[string]struct {
		in      string
		members []doctor.Member
		force   []string
		good    bool
		asked   string
	}{
		"the first":            {"sudo bob,lightdm bob", []doctor.Member{bob, root}, nil, true, "sudo bob,lightdm bob"},
		"another":              {"sudo root,lightdm bob", []doctor.Member{bob, root}, nil, true, "sudo bob,sudo root,lightdm bob"},
		"nobody":               {"lightdm bob", []doctor.Member{bob, root}, nil, false, "sudo bob,sudo root"},
		"nobody, and forced":   {"lightdm bob", []doctor.Member{bob}, []string{"13"}, true, "sudo bob,lightdm bob"},
		"root alone":           {"sudo root", []doctor.Member{root}, nil, true, "sudo root"},
		"no member":            {"", nil, nil, true, ""},
		"three are tried only": {"sudo f", []doctor.Member{{Name: "c", UID: 1}, {Name: "d", UID: 2}, {Name: "e", UID: 3}, {Name: "f", UID: 4}}, nil, false, "sudo c,sudo d,sudo e"},
	} {
		p := &passwords{in: map[string]bool{}}
		for who := range strings.SplitSeq(tt.in, ",") {
			p.in[who] = true
		}
		r := &run{o: Options{User: "alice", Force: tt.force}}
		err := r.tryBreakGlass(t.Context(), p, []string{"sudo", "lightdm"}, BreakGlass{Group: "breakglass", Members: tt.members})
		var no *RehearsalError
		if (err == nil) != tt.good || err != nil && !errors.As(err, &no) {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(p.asked, ","); got != tt.asked {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestReplacePassword: in that user's line alone, and nothing else of it.
func TestReplacePassword(t *testing.T) {
	const text = "root:$y$x:1:0:99999:7:::\nbobby:!:1::\nbob:*:20000:0:99999:7::20100:\nbob:second:\n"
	got, old, found := replacePassword(text, "bob", "$6$new")
	if want := strings.Replace(text, "bob:*:", "bob:$6$new:", 1); got != want || old != "*" || !found {
		t.Errorf("%q %v\n%s", old, found, got)
	}
	if got, _, found := replacePassword(text, "alice", "$6$new"); found || got != text {
		t.Errorf("%v\n%s", found, got)
	}
}

// TestByPassword: no password goes to the question for a PIN, nor to one that is not known.
func TestByPassword(t *testing.T) {
	password, err := secret.New([]byte("correct-horse"))
	if err != nil {
		t.Fatal(err)
	}
	defer password.Wipe()
	answer := byPassword(password)
	for text, want := range map[string]int{"Smart card PIN: ": 0, "Password: ": 13, "[sudo] password for bob: ": 13} {
		if got, err := answer(pamlogin.Asked{Text: text, Secret: true}); err != nil || got.Len() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, asked := range []pamlogin.Asked{{Text: "Verification code: ", Secret: true}, {Text: "Password hint: "}} {
		if _, err := answer(asked); !errors.Is(err, pamlogin.ErrNoAnswer) {
			t.Errorf("%+v: %v", asked, err)
		}
	}
}
