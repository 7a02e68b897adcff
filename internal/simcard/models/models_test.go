package models

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"pam_pkcs11/internal/iso7816"
	"pam_pkcs11/internal/simcard"
	"pam_pkcs11/internal/testca"
)

// send sends commands, the last of which must be answered 9000.
func send(t *testing.T, c *simcard.Card, commands ...string) {
	t.Helper()
	var answer []byte
	for _, command := range commands {
		b, err := hex.DecodeString(strings.ReplaceAll(command, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if answer, err = c.Transmit(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, sw, _ := iso7816.ParseResponse(answer); sw != iso7816.StatusOK {
		t.Errorf("%v: %v", commands, sw)
	}
}

// TestModels: each can be made, has an ATR in order, and logs in.
func TestModels(t *testing.T) {
	for _, m := range Models {
		t.Run(m.Name, func(t *testing.T) {
			o, err := Find(m.Name)
			if err != nil {
				t.Fatal(err)
			}
			c, err := simcard.New(o)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.SetKey(simcard.KeyAuthentication, testca.P256().Private, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := iso7816.ParseATRStrict(c.ATR()); err != nil {
				t.Errorf("% X: %v", c.ATR(), err)
			}
			verify := "00200080 08 313233343536FFFF"
			if o.PINs.AtZero {
				verify = "00200000 08 313233343536FFFF"
			}
			send(t, c, "00A40400 09 A00000030800001000 00", verify, "0087119A 0A 7C08 8200 8104 01020304 00")
		})
	}
	if _, err := Find("none"); err == nil {
		t.Error("a model that is none")
	}
}

// quick is a clock on which nothing has to be waited for.
type quick struct{}

func (quick) Now() time.Time { return time.Time{} }
func (quick) After(time.Duration) <-chan time.Time {
	done := make(chan time.Time)
	close(done)
	return done
}

// TestProfiles: a login as short as it gets takes what such cards were reckoned to take.
func TestProfiles(t *testing.T) {
	for name, want := range map[string]time.Duration{
		"yubikey5":  315 * time.Millisecond,
		"contact":   460 * time.Millisecond,
		"t0":        460 * time.Millisecond,
		"fast":      395 * time.Millisecond,
		"slow":      1475 * time.Millisecond,
		"nitrokey3": 1260 * time.Millisecond,
	} {
		p, err := FindProfile(name)
		if err != nil {
			t.Fatal(err)
		}
		atr, err := iso7816.ParseATRStrict(p.ATR)
		if err != nil {
			t.Fatal(name, err)
		}
		c, err := simcard.New(simcard.Options{Pace: p.Pace, ATR: p.ATR, Clock: quick{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetKey(simcard.KeyAuthentication, testca.RSA(2048, "alice").Private, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		le, get := "00", []string(nil)
		if atr.DefaultProtocol() == iso7816.ProtocolT0 {
			le, get = "", []string{"00C0000000"}
		}
		login := []string{"00A4040009A00000030800001000" + le, "00CB3FFF055C035FC105" + le}
		login = append(login, get...)
		login = append(login, "00A4040009A00000030800001000"+le, "0020008008313233343536FFFF",
			"1087079AFF7C82010682008182010000"+strings.Repeat("00", 244),
			"0087079A0B"+strings.Repeat("00", 10)+"01"+le)
		login = append(login, get...)
		send(t, c, append(login, "00C0000008")...)
		if got := c.Spent(); got < want*9/10 || got > want*11/10 {
			t.Errorf("%s: %v, want about %v", name, got, want)
		}
	}
	if _, err := FindProfile("snail"); err == nil {
		t.Error("a profile that is none")
	}
}
