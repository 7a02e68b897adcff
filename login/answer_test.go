package login

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

var classNames = map[Class]string{
	ClassSuccess: "SUCCESS", ClassIgnore: "IGNORE", ClassUnavailable: "AUTHINFO_UNAVAIL", ClassInsufficient: "CRED_INSUFFICIENT",
	ClassAuthError: "AUTH_ERR", ClassTokenError: "AUTHTOK_ERR",
}

// answerText is an answer as the golden file and the manual page have it: the code and the number
// of the message.
func answerText(a Answer) string {
	number := "-"
	if a.Message != "" {
		number = "text"
	}
	if rest, ok := strings.CutPrefix(a.Message, "Error "); ok {
		number, _, _ = strings.Cut(rest, ":")
	}
	return classNames[a.Class] + " " + number
}

// laterOutcomes came after the golden file was written.
var laterOutcomes = map[Outcome]string{
	DirectoryUnavailable: "CRED_INSUFFICIENT 2380",
	NoPrivateKey:         "CRED_INSUFFICIENT 2340",
	AccountNotChosen:     "CRED_INSUFFICIENT 2400",
	PINLastTry:           "AUTH_ERR 2384", // in ModeSkip only
	CardForbidden:        "AUTHINFO_UNAVAIL -",
}

// TestStrictAnswersStay: with foreign_card = refuse and under card_only nothing is answered
// otherwise than before there were modes. The file is never written anew.
func TestStrictAnswersStay(t *testing.T) {
	golden, err := os.ReadFile("testdata/answers-refuse.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, o := range Outcomes() {
		strict := answerText(o.Answer(ModeRefuse))
		if other := answerText(o.Answer(ModeCardOnly)); other != strict {
			t.Errorf("%v: %s under card_only, %s with refuse", o, other, strict)
		}
		if want, later := laterOutcomes[o]; !later {
			lines = append(lines, o.String()+" "+strict+"\n")
		} else if strict != want {
			t.Errorf("%v: %s, want %s", o, strict, want)
		}
	}
	if got := strings.Join(lines, ""); got != string(golden) {
		t.Errorf("the answers are others:\n%s", got)
	}
}

// TestSkipAnswers: the rows of the agreement, by what the card is.
func TestSkipAnswers(t *testing.T) {
	rows := []struct {
		answer   string // "+" stands for the outcome's own message
		outcomes []Outcome
	}{
		{"AUTHINFO_UNAVAIL -", []Outcome{
			IssuerUnknown, CertificateSignature, CertificateInvalid, NoCertificate, NoPrivateKey, ForeignCard, ForeignCardSkipped,
			NoMatchingCertificate, NoMatchingUser, TokenUnreadable,
		}},
		{"AUTHINFO_UNAVAIL +", []Outcome{
			PINLocked, PINExpired, PINNotInitialised, PINNotVerifiable, PINLastTry, RevocationUnknown, DirectoryUnavailable,
			TokenFault, SessionNotOpened, SessionNotClosed, SigningFailed, CardRemoved, UserNotSet, AccountNotChosen,
			LibraryNotLoaded, LibraryNotInitialised, ConfigurationInvalid, DeadlinePassed, InternalFault,
		}},
		{"CRED_INSUFFICIENT +", []Outcome{CertificateExpired, CertificateNotYetValid, CertificateRevoked, PINNotRead, NoRandom}},
		{"AUTH_ERR +", []Outcome{PINIncorrect, ProofFailed, PINEmpty, PINDoesNotFit}},
	}
	seen := map[Outcome]bool{}
	for _, row := range rows {
		for _, o := range row.outcomes {
			seen[o] = true
			code, number, _ := strings.Cut(answerText(o.Answer(ModeSkip)), " ")
			_, own, _ := strings.Cut(answerText(o.Answer(ModeRefuse)), " ")
			want := strings.Replace(row.answer, "+", own, 1)
			if got := code + " " + number; got != want {
				t.Errorf("%v: %s, want %s", o, got, want)
			}
		}
	}
	for _, o := range Outcomes() {
		if !seen[o] && answerText(o.Answer(ModeSkip)) != answerText(o.Answer(ModeRefuse)) {
			t.Errorf("%v is answered otherwise in ModeSkip and in no row", o)
		}
	}
}

// TestRequiredAnswers: who must use a card gets no answer after which a stack may go on, and is told why.
func TestRequiredAnswers(t *testing.T) {
	for _, o := range append(Outcomes(), -1, numOutcomes) {
		if o == Success || o == ChangeNotOurs || o == ChangeRefused || o == ChangeFailed {
			if o.Answer(ModeRequired) != o.Answer(ModeRefuse) {
				t.Errorf("%v: %s", o, answerText(o.Answer(ModeRequired)))
			}
			continue
		}
		a := o.Answer(ModeRequired)
		silent := o == EmptyPINFallback || o == ForeignCardSkipped // which WithCard keeps from happening
		if a.Class != ClassInsufficient || (a.Message == "") != silent {
			t.Errorf("%v: %s", o, answerText(a))
		}
	}
	for o, number := range map[Outcome]string{NoCard: "2422", RemoteRefused: "2424", CardForbidden: "2426", PINIncorrect: "2320"} {
		if got := answerText(o.Answer(ModeRequired)); got != "CRED_INSUFFICIENT "+number {
			t.Errorf("%v: %s", o, got)
		}
	}
}

// TestNoModeTurnsARefusalIntoALogin: nor into an opinion withheld.
func TestNoModeTurnsARefusalIntoALogin(t *testing.T) {
	for _, m := range []Mode{ModeRefuse, ModeSkip, ModeCardOnly, ModeRequired, -1, 99} {
		for _, o := range append(Outcomes(), -1, numOutcomes) {
			c := o.Answer(m).Class
			ignores := o == ChangeNotOurs || o == ScreenSaverCancelled && m != ModeRequired
			if (c == ClassSuccess) != (o == Success) || (c == ClassIgnore) != ignores {
				t.Errorf("%v in mode %d is %s", o, m, classNames[c])
			}
		}
	}
}

// TestManualHasTheTable: pam_pkcs11(8) shows each outcome with its answers.
func TestManualHasTheTable(t *testing.T) {
	page, err := os.ReadFile("../doc/pam_pkcs11.8")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), ".It Em reason Ta Em error")
	table, _, ended := strings.Cut(table, ".El")
	if !found || !ended {
		t.Fatal("the table is not in the page")
	}
	var want strings.Builder
	for _, o := range Outcomes() {
		fmt.Fprintln(&want, manualRow(o))
	}
	_, rows, _ := strings.Cut(table, "\n")
	if rows != want.String() {
		t.Errorf("the table of the page is not the one of the code, which is:\n%s", want.String())
	}
}

// shortNames are those of the manual page, whose table is no wider than a terminal.
var shortNames = map[Class]string{
	ClassSuccess:      "SUCCESS",
	ClassIgnore:       "IGNORE",
	ClassUnavailable:  "AUTHINFO",
	ClassInsufficient: "CRED",
	ClassAuthError:    "AUTH_ERR",
	ClassTokenError:   "AUTHTOK",
}

// manualRow is the line of mdoc for an outcome.
func manualRow(o Outcome) string {
	cell := func(m Mode) string {
		a := o.Answer(m)
		code := shortNames[a.Class]
		if a.Message == "" && o.Answer(ModeRefuse).Message != "" {
			code += "*"
		}
		return code
	}
	_, number, _ := strings.Cut(answerText(o.Answer(ModeRefuse)), " ")
	return fmt.Sprintf(`.It Li %s Ta %s Ta %s Ta %s Ta %s`, o, number, cell(ModeRefuse), cell(ModeSkip), cell(ModeCardOnly))
}
