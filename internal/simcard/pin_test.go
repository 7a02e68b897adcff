package simcard

import "testing"

// The global PIN of these tests, right and wrong.
const (
	globalVerify = "00200000 08 363636363636FFFF"
	globalWrong  = "00200000 08 363636363637FFFF"
	forget       = "0020FF80"
)

// TestPINRules: each row is a card, and what it answers.
func TestPINRules(t *testing.T) {
	global := func(u *PINUsage) Options { return Options{GlobalPIN: "666666", GlobalTries: 5, Usage: u} }
	tests := map[string]struct {
		o Options
		dialogue
	}{
		"630X": {Options{PINs: PINRules{PlainCounter: true}}, dialogue{
			{badVerify, 0x6302}, {"00200080", 0x6302}, {badVerify, 0x6301}, {badVerify, 0x6300}, {badVerify, 0x6983},
		}},
		"6983 on the last try": {Options{PINs: PINRules{LastBlocks: true}}, dialogue{
			{badVerify, 0x63C2}, {badVerify, 0x63C1}, {badVerify, 0x6983}, {goodVerify, 0x6983}, {"00200080", 0x63C0},
		}},
		"no number": {Options{PINs: PINRules{Uncounted: true}}, dialogue{
			{badVerify, 0x6300}, {badVerify, 0x6300}, {"00200080", 0x63C1}, {badVerify, 0x6300}, {badVerify, 0x6983},
		}},
		"any 8 bytes count": {Options{PIN: "pass:1", PINs: PINRules{AnyBytes: true, BadLength: 0x6700}}, dialogue{
			{"00200080 08 31323334FFFFFFFF", 0x63C2},
			{"00200080 06 313233343536", 0x6700},
			{"00200080 08 7061737332FFFFFF", 0x63C1},
			{"00200080 08 706173733A31FFFF", 0x9000},
			{"00240080 10 706173733A31FFFF 70617373FFFFFFFF", 0x6A80},
			{"00240080 10 706173733A31FFFF 706173733A32FFFF", 0x9000},
		}},
		"cannot forget": {Options{PINs: PINRules{Forget: 0x6A86}}, dialogue{
			{goodVerify, 0x9000}, {forget, 0x6A86}, {"00200080", 0x9000}, {"reset", 0}, {selectPIV, 0x9000}, {"00200080", 0x63C3},
		}},
		"forgetting a blocked PIN": {Options{Tries: 1, PINs: PINRules{ForgetBlocked: true}}, dialogue{
			{forget, 0x9000}, {badVerify, 0x63C0}, {forget, 0x6983},
		}},
		"never says verified": {Options{PINs: PINRules{EmptyNeverVerified: true}}, dialogue{
			{goodVerify, 0x9000}, {"00200080", 0x63C3}, {signNothing, 0x9000},
		}},
		"no empty VERIFY":                {Options{PINs: PINRules{Empty: 0x6700}}, dialogue{{"00200080", 0x6700}, {goodVerify, 0x9000}, {"00200080", 0x6700}}},
		"an empty VERIFY costs a try":    {Options{PINs: PINRules{EmptyCounts: true}}, dialogue{{"00200080", 0x63C2}, {"00200080", 0x63C1}}},
		"an empty VERIFY that is 6983":   {Options{Tries: 1, PINs: PINRules{EmptyBlocked: true}}, dialogue{{badVerify, 0x63C0}, {"00200080", 0x6983}}},
		"more tries than can be said":    {Options{Tries: 20}, dialogue{{"00200080", 0x63CF}, {badVerify, 0x63CF}}},
		"a PUK with tries of its own":    {Options{PUKTries: 1}, dialogue{{"002C0080 10 3132333435363739 363534333231FFFF", 0x63C0}, {"00200080", 0x63C3}}},
		"a wrong old PIN without number": {Options{PINs: PINRules{WrongOld: 0x6300}}, dialogue{{"00240080 10 313233343537FFFF 363534333231FFFF", 0x6300}, {"00200080", 0x63C2}}},
		"a change verifies": {Options{PINs: PINRules{ChangeVerifies: true}}, dialogue{
			{"00240080 10 313233343536FFFF 363534333231FFFF", 0x9000}, {"00200080", 0x9000}, {signNothing, 0x9000},
		}},
		"reference 00 alone": {Options{PINs: PINRules{AtZero: true}}, dialogue{
			{goodVerify, 0x6A88}, {"00200080", 0x6A88}, {"00200000", 0x63C3}, {"00200000 08 313233343536FFFF", 0x9000}, {signNothing, 0x9000},
		}},
		"global PIN": {global(nil), dialogue{
			{"00200000", 0x63C5}, {globalWrong, 0x63C4}, {"00200080", 0x63C3}, {globalVerify, 0x9000}, {"00200000", 0x9000},
			{"00200080", 0x63C3}, {signNothing, 0x9000}, {"00CB3FFF 05 5C035FC109 00", 0x9000},
			{globalVerify, 0x9000}, {"0087119C 0A 7C08 8200 8104 01020304 00", 0x9000},
			{selectAbsent, 0x6A82}, {"0020FF00", 0x9000}, {signNothing, 0x6982},
			{goodVerify, 0x9000}, {signNothing, 0x9000},
			{"002C0000 10 3132333435363738 363534333231FFFF", 0x6A88}, // the PUK is the application's
			{"00240000 10 363636363636FFFF 363534333231FFFF", 0x9000},
		}},
		"a global PIN that does not serve": {global(&UsagePIN), dialogue{
			{globalVerify, 0x9000}, {signNothing, 0x6982}, {goodVerify, 0x9000}, {signNothing, 0x9000},
		}},
		"the global PIN is the card's, not the applet's": {Options{GlobalPIN: "666666", Foreign: true}, dialogue{
			{globalVerify, 0x9000}, {selectForeign, 0x9000}, {selectPIV, 0x9000}, {signNothing, 0x9000}, {"reset", 0}, {selectPIV, 0x9000}, {signNothing, 0x6982},
		}},
		"no discovery": {Options{NoDiscovery: true}, dialogue{{"00CB3FFF 03 5C017E 00", 0x6A82}}},
		"contactless": {Options{Contactless: ContactlessFree}, dialogue{
			{getCHUID, 0x9000}, {"00CB3FFF 03 5C017E 00", 0x9000}, {"00CB3FFF 05 5C035FC105 00", 0x6982},
			{goodVerify, 0x6982}, {"00200080", 0x6982}, {"00240080 10 313233343536FFFF 363534333231FFFF", 0x6982},
			{signNothing, 0x6982}, {"0087149E 0A 7C08 8200 8104 01020304 00", 0x9000},
		}},
		"contactless, hidden": {Options{Contactless: ContactlessHide}, dialogue{{"00CB3FFF 05 5C035FC105 00", 0x6A82}, {goodVerify, 0x6982}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { tt.run(t, newCard(t, tt.o)) })
	}

	refused, err := New(Options{Contactless: ContactlessNone})
	if err != nil {
		t.Fatal(err)
	}
	dialogue{{selectPIV, 0x6A82}, {goodVerify, 0x6D00}}.run(t, refused)
}

// TestWhatDiscoverySays: with a global PIN, that it serves and is preferred, unless otherwise said.
func TestWhatDiscoverySays(t *testing.T) {
	for usage, o := range map[PINUsage]Options{
		UsagePIN:         {},
		UsageGlobalFirst: {GlobalPIN: "666666"},
		UsageBoth:        {GlobalPIN: "666666", Usage: &UsageBoth},
		{0x40, 0x10}:     {Usage: &PINUsage{0x40, 0x10}},
	} {
		data, _ := send(t, newCard(t, o), "00CB3FFF 03 5C017E 00")
		if len(data) != 20 || PINUsage(data[18:]) != usage {
			t.Errorf("%X: %X", usage, data)
		}
	}
}
