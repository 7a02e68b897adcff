package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"pam_pkcs11/internal/testca"
)

// changed is an old file that a row of CHANGELOG.md's "Changed defaults" is about.
type changed struct {
	row     string // beginning of the row
	mappers string // use_mappers; "cn" when empty
	module  string
	blocks  string // and settings of pam_pkcs11
	inCA    []byte // one more file of ca_dir
	want    string // a regular expression of the line that tells of it
}

const (
	skipping  = "foreign_card = skip;"
	fetching  = "cert_policy = ca, crl_auto; "
	directory = `uri = "ldaps://localhost"; base = "o=x"; `
	issuing   = `: the name of an issuer of which ca_dir has CAs stands for their keys`
	passed    = `c\.conf:4:\d+: a card that says nothing about the user .*foreign_card = refuse`
)

func changedDefaults() []changed {
	odd := testca.NewRoot("Odd", testca.WithExtension("2.5.29.18", false, []byte("malformed")))
	const status = "cert_policy = ca, crl_offline, ocsp_on; "
	return []changed{
		{row: "`foreign_card = skip` passed over somebody else's good card only", blocks: skipping, want: passed},
		{row: "With `foreign_card = skip` somebody else's expired", blocks: skipping, want: passed},
		{row: "With `foreign_card = skip` a locked, expired", blocks: skipping, want: passed + `|locked PIN after its message`},
		{row: "With `foreign_card = skip` a PIN was asked for on its last try", blocks: skipping, want: `no PIN is asked for on its last try`},
		{row: "With `foreign_card = skip` the prompt came before", blocks: skipping, want: `nor before it is known whose the card is`},
		{row: "With `foreign_card = skip` a token that shows no certificate", blocks: skipping, want: `shows no certificate before its PIN is not asked`},
		{row: "What was found out about a card counted", want: `what was found out about a card counts for five minutes`},
		{row: "A login whose worker was missing", want: `worker is missing or died says so`},
		{row: "C_Finalize came before the answer", want: `the answer comes before C_Finalize`},
		{row: "A card or reader that failed while it was read", want: `is a fault of the card \(Error 2314\)`},
		{row: "A token that cannot be read was no card", want: `a token that cannot be read is told to the user`},
		{row: "root's worker had the group", want: `root's worker has group 0`},
		{row: "`try_first_pass` and `use_first_pass` sent a secret", blocks: "use_first_pass = true;", want: `c\.conf:4:\d+: what an earlier module left is sent .*pin_pattern = `},
		{row: "After a wrong secret of an earlier module", blocks: "try_first_pass = true;", want: `c\.conf:4:\d+: after a wrong secret .*use_first_pass = true`},
		{row: "With PAM_SILENT the user saw the prompt alone", want: `the user sees what he must do and why he is refused`},
		{row: "A version 1 certificate in `ca_dir`", inCA: testca.SelfSigned("Alice", testca.Version(1)).PEM(), want: `new\.pem: certificate "CN=Alice.*v1_anchors = true`},
		{row: "`ca_dir`: only PEM blocks CERTIFICATE", inCA: append([]byte("\ufeff"), testca.NewRoot("New").PEM()...), want: `new\.pem: certificate "CN=New.* is an anchor; earlier releases`},
		{row: "A certificate with a malformed extension", inCA: odd.PEM(), want: `new\.pem: certificate "CN=Odd.* is an anchor; earlier releases did not read .*issuerAltName cannot be used`},
		{row: "A certificate with a malformed extension", want: `a malformed extension refuses a certificate where it is critical`},
		{row: "A malformed policy qualifier", want: `a malformed policy qualifier`},
		{row: "A CRL with an entry whose reason cannot be read", module: status, want: `count also where the reason cannot be read`},
		{row: "certmap: `<SAN:otherName>`", mappers: "certmap", blocks: `mapper certmap { rule a { match = "<SAN:otherName>MTIz"; } }`, want: `c\.conf:4:\d+: rule a: <SAN:otherName> finds its octets anywhere`},
		{row: "A mapfile's expression with GNU's escapes", blocks: "mapper cn { mapfile = file://DIR/mapfile; }", want: `expressions with GNU's escapes`},
		{row: "`ldap` without a server, `digest` and `serial` without a mapfile", mappers: "ldap", want: `mapper ldap has no server to ask.* \[error\]`},
		{row: "`ldap` without a server, `digest` and `serial` without a mapfile", mappers: "digest", want: `mapper digest has no mapfile.* \[error\]`},
		{row: "ldap: `attribute_map = \"uid=\"`", mappers: "ldap", blocks: "mapper ldap { " + directory + `attribute_map = "uid="; }`, want: `attribute_map: .*no item .* \[error\]`},
		{row: "ldap, certmap: of two lines `base`", mappers: "ldap", blocks: "mapper ldap { " + directory + `base = "o=y"; }`, want: `c\.conf:4:\d+: mapper ldap: all values of base count`},
		{row: "The newest CRL of an issuer's name decided", module: status, want: `lists of the key that signed a certificate say that it is good.*crl_auto`},
		{row: "Of two CRLs of one key and scope", module: status, want: `of several lists of one key only the newest speaks.*crl_grace`},
		{row: "`revocation = soft` passed over every certificate", module: status + "revocation = soft; ", want: `c\.conf:3:\d+: revocation = soft passes over silence only`},
		{row: "A configuration file that ended before its last", blocks: "mapper cn {", want: `c\.conf:1:1: the file ends before .* \[error\]`},
		{row: "ldap, certmap: any value of the attribute", mappers: "ldap", blocks: "mapper ldap { " + directory + "}", want: `entries must be named by uid \(RDN\).*uid_attribute = ATTRIBUTE`},
		{row: "ldap, certmap: the only value of `uid_attribute`", mappers: "ldap", blocks: "mapper ldap { " + directory + "uid_attribute = mail; }", want: `whoever may write mail may log in as anybody.*uidNumber`},
		{row: "ldap with `active_directory`", mappers: "ldap", blocks: "mapper ldap { " + directory + "active_directory = true; }", want: `the login of an entry is its sAMAccountName.*uid_attribute = ATTRIBUTE`},
		{row: "ldap, certmap: an entry that OpenLDAP found", mappers: "ldap", blocks: "mapper ldap { " + directory + "}", want: `found by issuer and serial number.*issuer = "sha256:`},
		{row: "`issuer`, `serial`, `<ISSUER>`, items issuer and altsecid", blocks: `mapper cn { issuer = "CN=Root,O=Example,C=IT"; }`, want: `c\.conf:4:\d+: mapper cn` + issuing},
		{row: "`issuer`, `serial`, `<ISSUER>`, items issuer and altsecid", mappers: "serial", blocks: "mapper serial { mapfile = file://DIR/mapfile; }", want: `mapper serial` + issuing},
		{row: "`issuer`, `serial`, `<ISSUER>`, items issuer and altsecid", mappers: "certmap", blocks: `mapper certmap { rule a { match = "<ISSUER>^CN=Root"; } }`, want: `mapper certmap` + issuing},
		{row: "`issuer`, `serial`, `<ISSUER>`, items issuer and altsecid", mappers: "ldap", blocks: "mapper ldap { " + directory + `attribute_map = "a=cn&b=issuer"; }`, want: `mapper ldap` + issuing},
		{row: "`issuer`, `serial`, `<ISSUER>`, items issuer and altsecid", mappers: "ldap", blocks: "mapper ldap { " + directory + "active_directory = true; }", want: `mapper ldap` + issuing},
		{row: "`cache_hours` served after invalid credentials", mappers: "ldap", blocks: "mapper ldap { " + directory + "cache_hours = 8; }", want: `c\.conf:4:\d+: mapper ldap: a kept answer serves only where no server was reached`},
		{row: "ldap: a base that does not exist", mappers: "ldap", blocks: "mapper ldap { " + directory + "}", want: `are faults, with Error 2380`},
		{row: "A login asked the address of a stored list", module: fetching, want: `not asked for 2 to 30 minutes.*--period 0`},
		{row: "A login asked every `crl_url`", module: fetching + "crl_url = http://h/l; ", want: `c\.conf:3:\d+: a login asks those addresses of crl_url`},
		{row: "A distribution point `ldap:///CN=...`", mappers: "ldap", module: fetching, blocks: "mapper ldap { " + directory + "}", want: `c\.conf:3:\d+: distribution points that name no server.*crl_ldap_server = `},
		{row: "`pam-pkcs11 crl update` ended with 1", module: fetching, want: `ends with 69, 65 or 75`},
		{row: "A certificate whose CKA_ID no private key has", want: `found by its public key where none has the certificate's CKA_ID`},
		{row: "The typed user name and the one that a mapper has", want: `are the same where the name service knows one account`},
		{row: "Of several lines of a mapfile that fit", blocks: "mapper cn { mapfile = file://DIR/mapfile; }", want: `of several lines that fit a certificate all count`},
		{row: "Of several lines of a mapfile that fit", mappers: "certmap", blocks: "mapper certmap { rule a { } rule b { } }", want: `all rules that fit count`},
		{row: "Without a user name, of several accounts", blocks: "mapper cn { mapfile = file://DIR/mapfile; }", want: `the user is asked which account is meant`},
		{row: "Without a user name, of several accounts", mappers: "certmap", blocks: "mapper certmap { rule a { } rule b { } }", want: `the user is asked which account is meant`},
		{row: "opensc, openssh: without a user name one home", mappers: "openssh", want: `mapper openssh: .* passed over after 200 ms`},
		{row: "Lines of a mapfile with tabs", blocks: "mapper cn { mapfile = file://DIR/mapfile; }", want: `lines of a mapfile with tabs round the arrow`},
	}
}

// TestChangedDefaults walks the table of CHANGELOG.md: `config check --old` names each row on a file that it concerns,
// with the key of the row's last column.
func TestChangedDefaults(t *testing.T) {
	rows := changedRows(t)
	known := changedDefaults()
	for _, row := range rows {
		if !containsRow(known, row[0]) {
			t.Errorf("no file of the test is concerned by the row %q", row[0])
		}
	}

	for _, c := range known {
		t.Run(c.row, func(t *testing.T) {
			keys, found := keysOf(rows, c.row)
			if !found {
				t.Fatal("no such row in CHANGELOG.md")
			}

			s := newSite(t)
			if c.inCA != nil {
				s.put("ca/new.pem", c.inCA, 0o644)
			}
			mappers := c.mappers
			if mappers == "" {
				mappers = "cn"
			}
			_, lines := s.check(siteConfig(mappers, c.module+"module = LIB; ca_dir = DIR/ca; crl_dir = DIR/crl;", c.blocks), "--old")
			want := regexp.MustCompile(c.want)
			for _, line := range lines {
				if want.MatchString(line) && (len(keys) == 0 || namesOne(line, keys)) {
					return
				}
			}
			t.Errorf("no line with %q that names one of %q in\n%s", c.want, keys, strings.Join(lines, "\n"))
		})
	}
}

// changedRows are the cells of the table for logins; that of the reader wing is about pcscd.conf, which `config check`
// does not read.
func changedRows(t *testing.T) [][3]string {
	t.Helper()
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "### Changed defaults\n")
	if !found {
		t.Fatal("no table of changed defaults")
	}
	table, _, _ = strings.Cut(table, "\nThe reader wing:\n")

	var rows [][3]string
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 || strings.HasPrefix(line, "| Before") {
			continue
		}
		rows = append(rows, [3]string{strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2])})
	}
	if len(rows) < 40 || len(rows) != strings.Count(table, "\n| ")-1 {
		t.Fatalf("%d rows can be read of %d", len(rows), strings.Count(table, "\n| ")-1)
	}
	return rows
}

func containsRow(known []changed, row string) bool {
	for _, c := range known {
		if strings.HasPrefix(row, c.row) {
			return true
		}
	}
	return false
}

// keysOf are the first words of what stands in backquotes in the last column, but of a row that says "none".
func keysOf(rows [][3]string, begin string) (keys []string, found bool) {
	for _, row := range rows {
		if !strings.HasPrefix(row[0], begin) {
			continue
		}
		if strings.HasPrefix(row[2], "none") || strings.HasPrefix(row[2], "None") || strings.HasPrefix(row[2], "–") {
			return nil, true
		}
		for _, quoted := range regexp.MustCompile("`([^` ]+)").FindAllStringSubmatch(row[2], -1) {
			keys = append(keys, quoted[1])
		}
		return keys, true
	}
	return nil, false
}

func namesOne(line string, keys []string) bool {
	for _, k := range keys {
		if strings.Contains(line, k) {
			return true
		}
	}
	return false
}
