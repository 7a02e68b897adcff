package main

import (
	"testing"
	"time"
)

func TestCountCalls(t *testing.T) {
	text := "*************** OpenSC PKCS#11 spy *****************\nLoaded: \"x\"\n\n0: C_GetFunctionList\nReturned:  0 CKR_OK\n\n" +
		"1: C_Initialize\n2026-01-01 00:00:00.000\n[in] pInitArgs = 0\nReturned:  0 CKR_OK\n\n12: C_GetSlotList\n[in] x: C_Login\n"
	if n := countCalls([]byte(text)); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
}

func TestRatioIsTheMedianOfTheRounds(t *testing.T) {
	ours := []time.Duration{1, 20, 30, 400, 5}
	theirs := []time.Duration{2, 10, 60, 800, 10}
	if r := ratio(ours, theirs); r != 0.5 {
		t.Errorf("%v, want 0.5", r)
	}
}
