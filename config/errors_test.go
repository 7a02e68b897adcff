package config_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/config"
	"pam_pkcs11/config/internal/finding"
	"pam_pkcs11/config/internal/scconf"
	"pam_pkcs11/config/internal/schema"
)

// In these files the lines are counted from the opening of pam_pkcs11.
func TestErrors(t *testing.T) {
	rows := []struct {
		name, text, want string // want is the beginning of the message
	}{
		{"an unknown key", minimal("debgu = true;", "", ""), `f.conf:2:1: unknown key "debgu" in pam_pkcs11 (did you mean debug?)`},
		{"a key of another block", minimal("cert_policy = ca;", "", ""), `f.conf:2:1: unknown key "cert_policy" in pam_pkcs11 (it belongs in a block pkcs11_module)`},
		{"a misspelt key of the module", minimal("", "  cert_polcy = ca;", ""), `f.conf:5:3: unknown key "cert_polcy" in pkcs11_module (did you mean cert_policy?)`},
		{"an unknown key of a mapper", minimal("", "", "ignorcase = true;"), `f.conf:8:1: unknown key "ignorcase" in mapper cn (did you mean ignorecase?)`},
		{"an unknown word", minimal("", "cert_policy = ca, crl_ofline;", ""), `f.conf:5:19: cert_policy has no word "crl_ofline" (did you mean crl_offline?)`},
		{"a word in capitals", minimal("", "cert_policy = CA;", ""), `f.conf:5:15: cert_policy has no word "CA" (did you mean ca?)`},
		{"a contradiction, ca and none", minimal("", "cert_policy = ca, none;", ""), `f.conf:5:15: none contradicts`},
		{"a contradiction, none and ca", minimal("", "cert_policy = none, ca;", ""), `f.conf:5:15: none contradicts`},
		{"a contradiction, signatures", minimal("", "cert_policy = ca, signature, no_signature;", ""), `f.conf:5:15: signature contradicts`},
		{"two lists", minimal("", "cert_policy = ca, crl_auto, crl_offline;", ""), `f.conf:5:15: crl_auto contradicts crl_offline`},
		{"lists without ca", minimal("", "cert_policy = crl_auto;", ""), `f.conf:5:15: crl_auto needs ca`},
		{"OCSP without ca", minimal("", "cert_policy = ocsp_on;", ""), `f.conf:5:15: ocsp_on needs ca`},
		{"no boolean", minimal("debug = ture;", "", ""), `f.conf:2:9: debug is true or false, not "ture" (did you mean true?)`},
		{"no number", minimal("", "slot_num = first;", ""), `f.conf:5:12: slot_num is a whole number`},
		{"a number with rubbish behind", minimal("err_display_time = 20s;", "", ""), `f.conf:2:20: err_display_time is a whole number`},
		{"a number with an underscore", minimal("", "slot_num = 1_0;", ""), `f.conf:5:12: slot_num is a whole number`},
		{"an octal number with an 8", minimal("", "slot_num = 08;", ""), `f.conf:5:12: slot_num is a whole number`},
		{"a number below its range", minimal("", "slot_num = -1;", ""), `f.conf:5:12: slot_num is from 0 to 65535`},
		{"a huge number", minimal("", "slot_num = 99999999999999999999;", ""), `f.conf:5:12: slot_num is from 0 to 65535`},
		{"a deadline of 0", minimal("verify_timeout = 0;", "", ""), `f.conf:2:18: verify_timeout is from 1 to 300`},
		{"two values for one", minimal("", "ca_dir = /a, /b;", ""), `f.conf:5:14: ca_dir takes one value, here are 2`},
		{"a relative path", minimal("", "ca_dir = cacerts;", ""), `f.conf:5:10: ca_dir is an absolute path`},
		{"slot_num and slot_description", minimal("", "slot_num = 1; slot_description = \"Reader\";", ""), `f.conf:5:12: slot_num = 1 contradicts slot_description`},
		{"hiding whose card it is, and skipping others'", minimal("foreign_card = skip;\nremote_login_hides = true;", "", ""),
			"f.conf:3:22: remote_login_hides = true contradicts foreign_card = skip"},
		{"a bad pattern", minimal("pin_pattern = \"[\";", "", ""), "f.conf:2:15: error parsing regexp"},
		{"a pattern that escapes its brackets", minimal("pin_pattern = \"a)|(b\";", "", ""), "f.conf:2:15: error parsing regexp"},
		{"a URI of another scheme", minimal("", "token_uri = http://x;", ""), `f.conf:5:13: "http://x" is not a PKCS#11 URI`},
		{"a variable without a value", minimal("", "environment = A=b, C;", ""), `f.conf:5:20: "C" is not NAME=value`},
		{"an unknown purpose", minimal("", "eku = clientAuht;", ""), `f.conf:5:7: unknown extended key usage "clientAuht" (did you mean clientAuth?)`},
		{"a list of another scheme", minimal("", "crl_url = ftp://h/x;", ""), `f.conf:5:11: "ftp://h/x" is not the address of a list`},
		{"a list without a host", minimal("", "crl_url = file://h/x;", ""), `f.conf:5:11: "file://h/x" is not the address of a list`},
		{"a proxy that is none", minimal("", "proxy = proxy:3128;", ""), `f.conf:5:9: "proxy:3128" is not a proxy`},
		{"a policy by name", minimal("", "required_policies = high;", ""), `f.conf:5:21: "high" is not an object identifier`},
		{"a key too short", minimal("", "min_rsa_bits = 512;", ""), `f.conf:5:16: `},
		{"ignore and a purpose", minimal("", "eku = ignore, clientAuth;", ""), `f.conf:5:7: ignore contradicts`},
		{"a mapfile of another scheme", minimal("", "", "mapfile = gopher://x/y;"), `f.conf:8:11: "gopher://x/y" is not a mapfile`},
		{"a relative mapfile", minimal("", "", "mapfile = file://host/y;"), `f.conf:8:11: "file://host/y" does not name an absolute path`},
		{"an issuer in pieces", minimal("", "", "issuer = CN=A,O=B;"), `f.conf:8:10: several authorities must each stand in quotes`},
		{"an issuer that is no name", minimal("", "", `issuer = "Staff CA";`), `f.conf:8:10: "Staff CA" names no authority`},
		{"an issuer's key that is too short", minimal("", "", `issuer = "sha256:00ff";`), `f.conf:8:10: "sha256:00ff" is not sha256: with hexadecimal digits`},
		{"an issuer's key identifier that is none", minimal("", "", `issuer = "ski:";`), `f.conf:8:10: "ski:" is not ski: with hexadecimal digits`},
		{"an issuer's file without a path", minimal("", "", `issuer = "file:ca.pem";`), `f.conf:8:10: "file:ca.pem" is not file: with an absolute path`},
		{"an unknown mapper", "pam_pkcs11 { use_mappers = cn, pwnet; pkcs11_module default { } }", `f.conf:1:32: use_mappers names "pwnet", which is no mapper (did you mean pwent?)`},
		{"a shared object that is no mapper", minimal("", "", "module = /lib/my_own.so;"), `f.conf:8:10: module = /lib/my_own.so is no built-in mapper`},
		{"type against module", minimal("", "", "module = /x/uid_mapper.so; type = mail;"), `f.conf:8:35: type = mail contradicts module`},
		{"an unknown type", minimal("", "", "type = subjcet;"), `f.conf:8:8: there is no mapper "subjcet" (did you mean subject?)`},
		{"a weak digest", "pam_pkcs11 { use_mappers = digest; pkcs11_module default { } mapper digest { algorithm = md5; } }", `f.conf:1:90: the digest "md5" is too weak`},
		{"an unknown digest", "pam_pkcs11 { use_mappers = digest; pkcs11_module default { } mapper digest { algorithm = sha265; } }", `f.conf:1:90: unknown digest "sha265" (did you mean sha256?)`},
		{"a module block that is not there", "pam_pkcs11 { use_pkcs11_module = opnesc; pkcs11_module opensc { } }", `f.conf:1:34: there is no block pkcs11_module opnesc (did you mean opensc?)`},
		{"an unknown block", "pam_pkcs11 { pkcs11_modul default { } }", `f.conf:1:14: unknown block "pkcs11_modul" (did you mean pkcs11_module?)`},
		{"a key written as a block", minimal("debug { }", "", ""), `f.conf:2:1: debug is a setting, not a block`},
		{"a block in a module block", minimal("", "slot { }", ""), `f.conf:5:1: unknown block "slot"`},
		{"the documented but wrong name", "pam-pkcs11 {\n}", `f.conf:1:1: unknown block "pam-pkcs11" (did you mean pam_pkcs11?)`},
		{"the wrong name beside the right one", "pam_pkcs11 { pkcs11_module default { } }\npam-pkcs11 { debug = true; }", `f.conf:2:1: unknown block "pam-pkcs11"`},
		{"two blocks", "pam_pkcs11 { pkcs11_module default { } }\npam_pkcs11 { }", `f.conf:2:1: a second block pam_pkcs11`},
		{"an empty file", "", "f.conf: there is no block pam_pkcs11 { }"},
		{"a } too many", minimal("", "", "") + "}", "f.conf:11:1: a } too many"},
		{"a quotation mark that is not closed", minimal("", "token_type = \"abc;", ""), "f.conf:5:14: a quotation mark is not closed"},
		{"a forgotten comma", minimal("", "cert_policy = ca signature;", ""), `f.conf:5:18: = or { is due after "signature"`},
		{"a comma and a forgotten value", minimal("screen_savers = a,\ndebug = true;", "", ""), `f.conf:3:7: "=" where a value, a comma or a ; is due`},
		{"a key without a value", minimal("debug;", "", ""), `f.conf:2:1: = or { is due after "debug"`},
		{"a key at the end of a block", minimal("", "debug", ""), `f.conf:5:1: = or { is due after "debug"`},
		{"two words before =", minimal("use mappers = cn;", "", ""), `f.conf:2:13: "=" where { is due`},
		{"a NUL byte", minimal("", "token_type = a\x00b;", ""), `f.conf:5:15: a control character in a word`},
		{"a NUL byte in a comment", minimal("# a\x00", "", ""), `f.conf:2:1: a NUL byte`},
		{"an escape character", minimal("", "token_type = \"a\x1b[2J\";", ""), "f.conf:5:15: a control character"},
		{"blocks without end", "pam_pkcs11 " + strings.Repeat("{ a ", 40), "f.conf:1:76: blocks are nested deeper than 16"},
		{"a file that is too long", strings.Repeat("#\n", scconf.MaxFileSize), "f.conf: longer than 1048576 bytes"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := config.Parse("f.conf", []byte(row.text), nil)
			var all finding.Errors
			if !errors.As(err, &all) {
				t.Fatalf("error %v, want %s", err, row.want)
			}
			if !strings.HasPrefix(all[0].Error(), row.want) {
				t.Errorf("error %v\n want %s", all[0], row.want)
			}
		})
	}
}

// What the C module read as "no" and what is written as "yes" is refused where yes lets more in.
func TestLooserThanTheOldReading(t *testing.T) {
	file := func(global, module, mapper, typ string) string {
		return "pam_pkcs11 { " + global + " use_mappers = m; pkcs11_module default { " + module + " } mapper m { type = " + typ + "; " + mapper + " } }"
	}
	rows := []struct {
		name, text, key string
		refused         bool
	}{
		{"nullok = on", file("nullok = on;", "", "", "cn"), "nullok", true},
		{"nullok = 1", file("nullok = 1;", "", "", "cn"), "nullok", true},
		{"nullok=true without blanks", file("nullok=true;", "", "", "cn"), "nullok", true},
		{"nullok=false without blanks", file("nullok=false;", "", "", "cn"), "nullok", false},
		{"nullok = true", file("nullok = true;", "", "", "cn"), "nullok", false},
		{"default_match = on", file("", "", "default_match = on;", "null"), "default_match", true},
		{"ignorecase = 1", file("", "", "ignorecase = 1;", "cn"), "ignorecase", true},
		{"ignorecase = 1 where it is the default", file("", "", "ignorecase = 1;", "mail"), "ignorecase", true},
		{"ignoredomain = on", file("", "", "ignoredomain = on;", "ms"), "ignoredomain", true},
		{"use_getpwent = enabled", file("", "", "use_getpwent = enabled;", "generic"), "use_getpwent", true},
		{"cert_policy=none without blanks", file("", "cert_policy=none;", "", "cn"), "cert_policy", true},
		{"cert_policy=signature without blanks", file("", "cert_policy=signature;", "", "cn"), "cert_policy", true},
		{"cert_policy=ca without blanks", file("", "cert_policy=ca,signature;", "", "cn"), "cert_policy", false},
		{"a policy in one pair of quotes", file("", `cert_policy = "ca, no_signature";`, "", "cn"), "cert_policy", true},
		{"a strict policy in one pair of quotes", file("", `cert_policy = "ca, signature";`, "", "cn"), "cert_policy", false},
		{"tls_checkpeer=0 without blanks", file("", "", "tls_checkpeer=0;", "ldap"), "tls_checkpeer", true},
		{"ignorecase of krb, which was not looked at", file("", "", "ignorecase = true;", "krb"), "ignorecase", true},
		{"debug = on lets nobody in", file("debug = on;", "", "", "cn"), "debug", false},
		{"a new key without blanks", file("unverified_names=true;", "", "", "cn"), "unverified_names", false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := config.Parse("f.conf", []byte(row.text), nil)
			if refused := err != nil; refused != row.refused {
				t.Fatalf("error %v, want one: %v", err, row.refused)
			}
			if err != nil && (!strings.Contains(err.Error(), row.key) || !strings.Contains(err.Error(), "f.conf:1:") || !strings.Contains(err.Error(), "write `"+row.key)) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestErrorsOutsideOfWhatIsUsedAreNotes(t *testing.T) {
	c := parsed(t, `pam_pkcs11 { use_mappers = cn;
pkcs11_module default { }
pkcs11_module other { cert_policy = everything; modul = x; }
mapper uid { ignorecase = perhaps; }
mapper mine { module = /lib/mine.so; }
mapper ldap { tls_checkpeer = 0; ssl = off; }
}`)
	for _, part := range []string{`no word "everything"`, `unknown key "modul"`, "true or false", "mine.so is no built-in", "tls_checkpeer = 0"} {
		if !hasNote(c.Notes, finding.NoteUnused, part) {
			t.Errorf("no note with %q", part)
		}
	}
	for _, n := range c.Notes {
		if n.Loud() {
			t.Errorf("loud, and not in use: %v", n)
		}
	}
}

func TestRisksInUseAreLoud(t *testing.T) {
	c := parsed(t, `pam_pkcs11 { use_mappers = ldap, null; pkcs11_module default { }
mapper ldap { uri = ldap://h; tls_checkpeer = 0; ssl = off; }
mapper null { default_match = true; } }`)
	for _, part := range []string{"tls_checkpeer = 0", "ssl = off", "default_match = true"} {
		if !hasNote(c.Notes, finding.NoteInsecure, part) {
			t.Errorf("no loud note with %q in %v", part, c.Notes)
		}
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, err := config.Parse("f.conf", []byte(minimal("debgu = true; quiet = perhaps;", "cert_policy = CA;", "x = y;")), nil)
	var all finding.Errors
	if !errors.As(err, &all) || len(all) != 4 {
		t.Fatalf("%v", err)
	}
	for i, line := range []int{2, 2, 5, 8} {
		if all[i].Line != line {
			t.Errorf("error %d in line %d: %v", i, all[i].Line, all[i])
		}
	}
	var one *finding.Error
	if !errors.As(err, &one) || strings.Contains(err.Error(), "\n") {
		t.Errorf("not one line, or no *Error: %q", err)
	}
}

func TestErrorsAreBounded(t *testing.T) {
	text := minimal(strings.Repeat("x = y;\n", 5000), "", "")
	_, err := config.Parse("f.conf", []byte(text), nil)
	var all finding.Errors
	if !errors.As(err, &all) || len(all) != finding.MaxErrors+1 {
		t.Errorf("%d errors", len(all))
	}
	text = minimal(strings.Repeat("debug = true\n", 5000), "", "")
	if c := parsed(t, text); len(c.Notes) > finding.MaxNotes {
		t.Errorf("%d notes", len(c.Notes))
	}
}

func TestDidYouMean(t *testing.T) {
	for word, want := range map[string]string{"cretpolicy": "cert_policy", "CERT_POLICY": "cert_policy", "xyzzy": "", "": ""} {
		if want != "" {
			want = fmt.Sprintf("did you mean %s?", want)
		}
		if got := finding.DidYouMean(word, schema.Module.Names()); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

// processorTime is what f costs the thread it runs on, whoever else wants the processor.
func processorTime(t *testing.T, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	now := func() time.Duration {
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
			t.Fatal(err)
		}
		return time.Duration(ts.Nano())
	}

	start := now()
	f()
	return now() - start
}

// linear checks that the work on the whole file grows with its size, measured at an eighth of it in the same run: linear
// work takes 8 times as long, quadratic work 64 times. What costs less than 50 ms need not be compared. One measurement
// can be off, three are not.
func linear(t *testing.T, file, eighth string) error {
	t.Helper()
	var whole, part time.Duration
	for range 3 {
		whole = processorTime(t, func() { config.CheckData("f.conf", []byte(file)) })
		if whole < 50*time.Millisecond {
			return nil
		}
		part = processorTime(t, func() { config.CheckData("f.conf", []byte(eighth)) })
		if whole < 24*part {
			return nil
		}
	}
	return fmt.Errorf("%v for all, %v for an eighth of it", whole, part)
}

// A megabyte of anything is read in time that grows with its size, and its messages fit into a log.
func TestWorkIsBounded(t *testing.T) {
	eighths := bulkyFiles(scconf.MaxFileSize / 8)
	for name, text := range bulkyFiles(scconf.MaxFileSize) {
		r := config.CheckData("f.conf", []byte(text))
		if n := len(r.Errors.Error()); n > (finding.MaxErrors+1)*2000 {
			t.Errorf("%s: a message of %d bytes", name, n)
		}

		if err := linear(t, text, eighths[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// bulkyFiles are files of about a size that hold much of one thing.
func bulkyFiles(size int) map[string]string {
	fill := func(one string) string {
		return "pam_pkcs11 { pkcs11_module default { } " + strings.Repeat(one, (size-100)/len(one)) + " }"
	}
	list := func(key, word string) string {
		return minimal(key+strings.Repeat(word+",", (size-500)/(len(word)+1))+word+";", "", "")
	}
	return map[string]string{
		"unknown keys": fill("abcdefg=h;"), "unknown blocks": fill("abcdefg h{}"), "mappers": fill("mapper cn{}"), "mappers of many names": fill("mapper a b c{}"),
		"modules": fill("pkcs11_module a{b=c;}"), "policies": minimal("", "cert_policy = none"+strings.Repeat(", none", size/7)+";", ""), "names": list("use_mappers = ", "x"),
		"one long word": minimal("use_mappers = "+strings.Repeat("x", size-500)+";", "", ""), "comments": fill("#\n"), "braces": fill("a{"), "quotes": fill("\"\" "),
		"braces in a word": minimal("pin_pattern = "+strings.Repeat("}", size-500)+";", "", ""), "commas": minimal("x = "+strings.Repeat(",", size-500)+";", "", ""),
	}
}

// TestSocketsAreNoRisk: on a local socket nothing travels; one server elsewhere, and it does.
func TestSocketsAreNoRisk(t *testing.T) {
	for keys, loud := range map[string]bool{
		`uri = "ldapi:///"; ssl = off;`:                           false,
		`ssl = off; uri = "LDAPI://%2Frun%2Fslapd%2Fldapi";`:      false,
		`uri = "ldapi:///", "ldapi://%2Fa"; ssl = off;`:           false,
		`uri = "ldapi:/// ldap://h"; ssl = off;`:                  true,
		`uri = "ldapi:///"; ldaphost = h.example; ssl = off;`:     true,
		`uri = "ldapi:///"; srv_domain = example.org; ssl = off;`: true,
		`uri = "ldapi:///"; referrals = true; ssl = off;`:         true,
		`uri = "ldap://127.0.0.1"; ssl = off;`:                    true,
		`uri = "ldapi:///"; ssl = off; tls_checkpeer = 0;`:        false,
		`ldaphost = h.example; ssl = off;`:                        true,
	} {
		c := parsed(t, "pam_pkcs11 { use_mappers = ldap; pkcs11_module default { } mapper ldap { base = \"dc=x\"; "+keys+" } }")
		if got := hasNote(c.Notes, finding.NoteInsecure, "ssl = off"); got != loud {
			t.Errorf("%s: %v, want %v: %v", keys, got, loud, c.Notes)
		}
	}
}
