package config_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"pam_pkcs11/config/internal/schema"
)

// The manual page and the example file are made of the schema: go test ./config -update writes them.
var update = flag.Bool("update", false, "write the manual page and the example file anew")

const (
	manualFile  = "../doc/pam_pkcs11.conf.5"
	exampleFile = "../pam_pkcs11.conf.example"
)

func compareOrUpdate(t *testing.T, file string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the schema says: run go test ./config -update", file)
	}
}

// roff escapes text for man(7).
func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	s = regexp.MustCompile("`([^`]*)`").ReplaceAllString(s, `\fB$1\fR`)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func manualKey(out *bytes.Buffer, k schema.Key) {
	def := k.Default
	if def == "" {
		def = "empty"
	}
	isNew := ""
	if k.Status == schema.New {
		isNew = "; new"
	}
	fmt.Fprintf(out, ".TP\n.B %s\n(%s; default %s%s)\n%s\n", roff(k.Name), roff(k.Values()), roff(def), isNew, roff(k.Doc))
}

func manualTable(out *bytes.Buffer, title string, t *schema.Table, skip func(schema.Key) bool) {
	fmt.Fprintf(out, ".SS \"%s\"\n%s\n", roff(title), roff(t.Doc))
	var idle []string
	for _, k := range t.Keys {
		switch {
		case skip != nil && skip(k):
		case k.Status == schema.NoEffect:
			idle = append(idle, `\fB`+roff(k.Name)+`\fR`)
		default:
			manualKey(out, k)
		}
	}
	if len(idle) > 0 {
		fmt.Fprintf(out, ".PP\nAccepted without effect: %s.\n", strings.Join(idle, ", "))
	}
}

func manual() []byte {
	var out bytes.Buffer
	out.WriteString(manualHead)
	manualTable(&out, "pam_pkcs11 { }", &schema.Global, nil)
	manualService(&out)
	manualTable(&out, "pkcs11_module NAME { }", &schema.Module, nil)
	common := schema.Table{Doc: "Says whose certificate it is. A mapper of use_mappers without a block has the defaults. These keys stand in the block of every mapper:", Keys: schema.CommonKeys}
	manualTable(&out, "mapper NAME { }", &common, nil)
	for i := range schema.MapperTables {
		manualTable(&out, "mapper "+schema.MapperTables[i].Type, &schema.MapperTables[i], nil)
	}
	manualTable(&out, "rule NAME { }, in a certmap mapper", &schema.Rule, nil)
	out.WriteString(blocksManual + servicesManual + personsManual + directoryManual + certmapManual + authoritiesManual +
		enrolledManual + manualTail)
	return out.Bytes()
}

// manualService shows what may stand in the block of a service: what it means stands at the keys of that name.
func manualService(out *bytes.Buffer) {
	fmt.Fprintf(out, ".SS \"%s\"\n%s\n", roff("service NAME, ... { }"), roff(schema.Service.Doc)+
		" These keys may stand there, with what they may say; see SERVICES.")
	for _, k := range schema.Service.Keys {
		fmt.Fprintf(out, ".TP\n.B %s\n%s\n", roff(k.Name), roff(k.Doc))
	}
}

const manualHead = `.\" Made of the schema by go test ./config -update. Do not edit.
.TH PAM_PKCS11.CONF 5 2026-11-24 pam_pkcs11 "File Formats"
.SH NAME
pam_pkcs11.conf \- configuration of smart card login
.SH SYNOPSIS
.I /etc/pam_pkcs11/pam_pkcs11.conf
.SH DESCRIPTION
The file says where cards are read (by the built\-in card, which needs no library, or by PKCS#11 libraries), which certificates to believe, and whose they are.
It is read at each login.
An error anywhere in what is in use refuses every login (PAM_AUTHINFO_UNAVAIL) and is logged with file, line, column and the nearest known word;
.B pam\-pkcs11 config check
shows all of them beforehand, and what is wrong with the files that are named here. Errors in blocks that are not in use are only reported.
.PP
The file must belong to root and be writable by nobody else. It is readable by everybody, because screen lockers run as the user; passwords belong in files of their own.
.SH GRAMMAR
.nf
key = value, value, ... ;
key name { ... }
.fi
.PP
Everything stands in one block
.BR "pam_pkcs11 { }" .
A # begins a comment where a word could begin. A word ends at a blank, a comma or a semicolon; words with these characters stand in double quotes, in which there are no escapes.
Keys and names of blocks compare without regard to case, values with it. An empty value is the default.
A boolean is true, t, yes, y, on, 1, enable, enabled or false, f, no, n, off, 0, disable, disabled. A number may be decimal, hexadecimal (0x) or octal (0).
A list has at most 100 values, and the file at most 1 MiB.
.PP
As with older versions, a missing semicolon before the next key and a key given twice are tolerated: lists are added up, of other keys the first counts.
A brace too many is an error, and so is a file that ends before the last brace or inside a value: it may have been cut off, and what is missing may be a restriction.
What older versions silently read otherwise than it is written (\fBdebug=true\fR without blanks, \fBon\fR for true, a list in one pair of quotes) is read as it is written, and told by \fBconfig check \-\-old\fR;
where that would be less strict than before, the file is refused with the line.
.SH KEYS
In brackets stands what may be written, with every word and both ends of a range, and the default. Keys marked new are unknown to pam_pkcs11 0.6.13 and older.
`

const blocksManual = `.SH SEVERAL BLOCKS
\fBuse_pkcs11_module\fR may name several blocks, at most 8, for cards of several kinds:
.PP
.nf
use_pkcs11_module = builtin, vendor;
.fi
.PP
The first block looks first.
A later one is opened only where the earlier ones have found no card, or one of a kind that they cannot use: a library that is not needed is not loaded.
It sees the cards that no earlier block could read at all (no PIV applet, no token that the library knows), and slots that are no reader of an earlier block.
Readers are known by their names, of which PKCS#11 shows 64 bytes.
.PP
Where the first block cannot be used at all (its library is missing, no daemon for readers answers), the login ends: what its cards are is not known.
A fault of a later block is logged, and neither it nor the blocks behind it have cards then.
.PP
A card that was read is judged once, by the keys of the block that read it: one that is revoked, expired or another user's, a locked PIN or a wrong one end there, and no later block is asked about that card.
The PIN that was typed for one card goes to no other.
.PP
A block that is less strict than one before it is an error, since the card decides by which block it is judged: fewer checks in \fBcert_policy\fR, responders beside lists or lists beside responders (the first that speaks is believed), another \fBca_dir\fR, a wider \fBeku\fR, \fBrevocation = soft\fR where the other is hard, and so on.
\fBallow_looser_block = true\fR in that block allows it, and is logged at every login.
With \fBrequire_pin = false\fR a library's block behind the built\-in card is such a block, because the built\-in card is never used without its PIN.
`

const servicesManual = `.SH SERVICES
What is stricter for some PAM services stands in a block with their names, which are those of files in /etc/pam.d:
.PP
.nf
service sudo, su {
  card_required_groups = admins;
  cert_policy = ocsp_on;
  wait_for_card_timeout = 20;
}
.fi
.PP
A login is judged by three texts: the file; the arguments of the module's line, which override it; and the block of the service, which can only make stricter what then holds.
A block that is less strict than the file is an error of the file, with the place, the value and what is expected.
Of a block and an argument the stricter one counts; of \fBquiet\fR, \fBdebug\fR and \fBwait_for_card\fR, of which neither value is stricter, the argument.
So neither a block nor an argument undoes what the other one keeps out.
What cannot be had together (lists by a block beside responders by \fBcert_policy=\fR) refuses the logins of that service.
.PP
\fBcard_only = true\fR is an error for a service of \fBscreen_savers\fR, which it would let pass without a card.
There are at most 100 names. An error in a block refuses every login, also of other services.
`

const personsManual = `.SH WHO NEEDS A CARD
.TP
.B card_required_users, card_required_groups
Who must use a card. Each refusal is PAM_CRED_INSUFFICIENT, so that the stack can end there.
.TP
.B card_optional_users, card_optional_groups
Who may use a card: it is one way of several, as with \fBforeign_card = skip\fR and without \fBcard_only\fR.
.TP
.B card_forbidden_users, card_forbidden_groups
Who must not use a card. The answer is PAM_AUTHINFO_UNAVAIL, nothing is said, and no card is touched.
.TP
.B card_others
What holds for users in none of these lists.
.PP
For who must, every refusal is PAM_CRED_INSUFFICIENT: where there is no card or no reader, where the PIN is wrong, from another host, and in services of \fBscreen_savers\fR. \fBempty_pin = fallback\fR does not count for him.
.PP
Who is in several lists is treated as the safest says: must before must not, must not before may. Names of users are found as they were typed and by their account, in whatever spelling the name service knows; groups by their list of members, by the account's own group and by all groups that the name service counts, nested ones too.
.PP
What cannot be found out means must: a group that does not exist or whose directory does not answer, a user without account, a listed user who cannot be looked up and may be this one by another name, lookups that together take longer than \fBverify_timeout\fR. The log names the cause.
A group is asked about only where it matters: not for users of \fBcard_required_users\fR, and groups of \fBcard_forbidden_groups\fR only after those of \fBcard_required_groups\fR. Who is in the list of members of a group of /etc/group is found without asking a directory.
So the way in that is to work when the directory does not is this, with a local group and no group of must:
.PP
.nf
card_others = required;
card_forbidden_groups = breakglass;
.fi
.PP
The module only says PAM_AUTHINFO_UNAVAIL of such a user; his password is the business of the stack, which must go on to it. The line for this is
.PP
.nf
auth [success=end authinfo_unavail=ignore ignore=ignore default=die] pam_pkcs11.so fail_closed
.fi
.PP
in a file of /usr/share/pam\-configs, and with the number of lines to pass over in place of \fBend\fR elsewhere.
Without \fBfail_closed\fR the module answers PAM_AUTHINFO_UNAVAIL too where it cannot know who must: its configuration has errors, or its worker cannot be started, which a caller of su may bring about by limits (\fBulimit \-n\fR); such a line would then go on to the password for everybody.
With it a module that is broken lets nobody in by this line, those who must not use a card included: keep another way to mend it (a console with a stack of its own, a rescue system).
Once it is known that a user must use a card, no crash of the worker or of a PKCS#11 library is PAM_AUTHINFO_UNAVAIL, with \fBfail_closed\fR or without.
.PP
Where no user name is given, the card is to name the user. If anybody must use a card, each refusal is then PAM_CRED_INSUFFICIENT: somebody who must could come, and the password would be asked for instead. Once the card has named the user, and before its PIN is asked for, accounts that must not use a card are left out; where none is left the login is refused (Error 2426). The card has been read by then, and a card that shows its certificates only after its PIN has been asked for that.
.PP
\fBpasswd\fR changes no PIN for a user who must not use a card. The lists count in the same way for programs that run as the user.
`

const manualTail = `.SH MAPFILES
Lines of the form
.PP
.nf
KEY \-> LOGIN
.fi
.PP
KEY is a text of the certificate, as a whole. It stands at the beginning of the line, or behind blanks; the first blank, arrow and blank end it. Tabs, and several blanks, will do, and so do blanks behind the commas of a name. LOGIN is the rest of the line without the blanks at its end. Every line whose KEY fits counts, so that a certificate may have several accounts: the one that is asked for by name gets in, and where no user name is given the user is asked which. Lines that begin with # are comments, and lines without an arrow are passed over.
Between ^ and $ KEY is a POSIX basic regular expression, and between (^ and $) an extended one; both must match the whole text, and neither may have back\-references.
.PP
What the texts are: \fBcn\fR, \fBuid\fR: each value. \fBsubject\fR: the name as /C=IT/O=Example/CN=Alice and as CN=Alice,O=Example,C=IT (RFC 4514). \fBmail\fR, \fBupn\fR, \fBkrb\fR: each name with its domain or realm. \fBdigest\fR: the fingerprint in hexadecimal, with colons or without, or the line of openssl x509 \-fingerprint; with \fBdigest_of = key\fR that of the public key, as openssl x509 \-noout \-pubkey | openssl pkey \-pubin \-outform DER | sha256sum prints it.
\fBserial\fR: the number, a blank, and the issuer in one of the forms of subject; the number as 431, 0x1AF, 01:AF or, unless it could be decimal, 01AF.
.PP
A file must belong to root and be writable by nobody else; it has at most 1 GiB. What a URL names is fetched at each login, within 20 seconds and 64 MiB; https and ldaps servers must have a certificate of an authority that the system trusts.
A copy in /var/cache/pam_pkcs11/mapfiles spares root the transfer when the server says that nothing has changed. A server that does not answer names nobody.
An LDAP URL names the attribute whose value is the text: ldaps://host/DN?attribute (RFC 4516), and ldapi://%2Fpath%2Fof%2Fsocket/DN?attribute for a server on this machine.
.SH FILES OF USERS
\fBopensc\fR and \fBopenssh\fR look into files in the users' homes. They are opened as the user; the file, its directories up to the home, and links on the way must belong to him or to root and be writable by nobody else. Where no user name is given, the files of all users are searched, and a certificate that two of them have is nobody's. There a home that does not answer within 200 ms is passed over, and the log names it. Where three homes of one file server (NFS, SMB) or FUSE mount are, its other homes are passed over at once; with more than 24 homes of other kinds the mapper fails.
.SH MODULE ARGUMENTS
They stand behind the module's name in the PAM service file and override the file. Each is matched as a whole; an unknown one is an error.
.TP
.BR debug ", " nodebug ", " quiet ", " nullok ", " try_first_pass ", " use_first_pass ", " card_only ", " wait_for_card ", " dont_wait_for_card
Set or clear the key of that name.
.TP
.B skip_foreign
\fBforeign_card = skip\fR.
.TP
.B fail_closed
A fault of the module itself is PAM_CRED_INSUFFICIENT: an error in the configuration, a worker that cannot start, crashes or is too slow. Without it these are PAM_AUTHINFO_UNAVAIL.
.TP
.BI empty_pin= WORD
error or fallback: override the key of that name.
.TP
.BI config_file= PATH
Read another file; the first one counts.
.TP
.BI slot_num= N "\fR, " slot_description= TEXT "\fR, " ca_dir= PATH "\fR, " crl_dir= PATH "\fR, " token_type= TEXT
Override the key of the module block.
.TP
.BI cert_policy= WORDS
Add words to those of the file; \fBnone\fR clears them first.
.TP
.BI pkcs11_module= X
Use the block of that name, alone, or, with a slash in it, the library of that path.
.TP
.BR use_authtok ", " crl_policy= ", " nss_dir= ", " expose_account ", " no_warn
Accepted without effect.
.SH FILES
.TP
.I /etc/pam_pkcs11/pam_pkcs11.conf
The file that is read when no argument names another.
.SH SEE ALSO
.BR pam_pkcs11 (8),
.BR pam\-pkcs11 (1)
`

func TestManualPage(t *testing.T) { compareOrUpdate(t, manualFile, manual()) }

// shown are the settings that the example file makes, below a comment with the default where that is another.
var shown = map[string]string{
	"use_pkcs11_module": "builtin", "use_mappers": "digest", "cert_policy": "ca, signature",
	"module": "builtin", "digest mapfile": "file:///etc/pam_pkcs11/digest_mapping", "digest algorithm": "sha256",
	"foreign_card": "skip", "pin_pattern": `"[0-9]+"`,
}

func exampleKeys(out *bytes.Buffer, keys []schema.Key, typ, indent string) {
	for _, k := range keys {
		if k.Status == schema.NoEffect {
			continue
		}
		name := k.Name
		if typ != "" {
			name = typ + " " + name
		}
		exampleComment(out, indent, "# ", k)
		set, isSet := shown[name]
		if def := exampleValue(k); !isSet || def != set {
			fmt.Fprintf(out, "%s#%s = %s;\n", indent, k.Name, def)
		}
		if isSet {
			fmt.Fprintf(out, "%s%s = %s;\n", indent, k.Name, set)
		}
	}
}

// exampleComment is what stands above a setting: what the key does, and on a line of its own what may be written.
func exampleComment(out *bytes.Buffer, indent, mark string, k schema.Key) {
	const width = 100
	begin := indent + mark
	line := begin
	for word := range strings.FieldsSeq(k.Doc) {
		if line != begin && len(line)+1+len(word) > width {
			fmt.Fprintln(out, line)
			line = begin
		}
		if line != begin {
			line += " "
		}
		line += word
	}
	fmt.Fprintf(out, "%s\n%sValues: %s.\n", line, begin, k.Values())
}

func exampleValue(k schema.Key) string {
	if (!k.IsList() || k.Kind == schema.Bases) && strings.ContainsAny(k.Default, " ,;=") {
		return `"` + k.Default + `"`
	}
	return k.Default
}

func example() []byte {
	var out bytes.Buffer
	out.WriteString(exampleHead)
	exampleKeys(&out, schema.Global.Keys, "", "  ")
	fmt.Fprintf(&out, "\n  # %s\n  pkcs11_module builtin {\n", schema.Module.Doc)
	exampleKeys(&out, schema.Module.Keys, "", "    ")
	out.WriteString("  }\n" + exampleService + "\n  # What may stand in the block of every mapper:\n")
	for _, k := range schema.CommonKeys {
		exampleComment(&out, "  ", "#   ", k)
		fmt.Fprintf(&out, "  #   %s = %s;\n", k.Name, exampleValue(k))
	}
	for _, m := range schema.MapperTables {
		fmt.Fprintf(&out, "\n  # %s\n  mapper %s {\n", m.Doc, m.Type)
		exampleKeys(&out, m.Keys, m.Type, "    ")
		if m.Type == "certmap" {
			out.WriteString("    #rule NAME {\n")
			for _, k := range schema.Rule.Keys {
				exampleComment(&out, "      ", "# ", k)
				fmt.Fprintf(&out, "      #%s = %s;\n", k.Name, k.Default)
			}
			out.WriteString("    #}\n")
		}
		out.WriteString("  }\n")
	}
	out.WriteString("}\n")
	return out.Bytes()
}

const exampleHead = `# Example of /etc/pam_pkcs11/pam_pkcs11.conf, with every key. Keys behind a # show their defaults.
#
# What is set here: certificates of PIV cards, issued by an authority whose certificate lies in
# /etc/pam_pkcs11/cacerts, log in those whom /etc/pam_pkcs11/digest_mapping lists by the SHA-256
# fingerprint of the certificate, one on each line, as openssl x509 -fingerprint -sha256 prints it:
#
#     1F:2E:...:9A -> alice
#
# PIV cards need no library. For cards of another kind write a block of another name with the path of a
# PKCS#11 library as its module, such as /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so, and name it in
# use_pkcs11_module, alone or behind builtin.
#
# Guides ask for the mapper pwent, and for revocation to be checked by ocsp_on and crl_auto: these words
# are understood and obeyed. No comment below shows such a line, because an audit that looks for one in a
# copy of this file must find only settings that count.
#
# The line for a file of /etc/pam.d, in front of the one that includes common-auth, for a card or the
# password (pam_pkcs11(8) has more):
#
#     auth sufficient pam_pkcs11.so
#
# pam-pkcs11 config check FILE finds what is wrong with a file. The manual page is pam_pkcs11.conf(5).

pam_pkcs11 {
`

const exampleService = `
  # What is stricter for some PAM services (pam_pkcs11.conf(5), SERVICES):
  #
  #   service sudo, su {
  #     card_required_groups = admins;
  #     wait_for_card_timeout = 20;
  #   }
`

func TestExampleFile(t *testing.T) { compareOrUpdate(t, exampleFile, example()) }

// The example says nothing that must be reported, and the defaults behind its # are the defaults.
func TestExampleIsSound(t *testing.T) {
	plain, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	one := parsed(t, string(plain))
	settings := regexp.MustCompile(`(?m)^(\s+)#([a-z0-9_]+ = .*;|rule NAME \{|\})$`)
	all := settings.ReplaceAllString(withoutShownDefaults(string(plain)), "$1$2")
	if n := len(settings.FindAllString(string(plain), -1)); n < 80 {
		t.Fatalf("only %d settings in the comments of the example", n)
	}
	two := parsed(t, all)
	if len(one.Notes) != 0 || len(two.Notes) != 0 {
		t.Errorf("notes %v\n%v", one.Notes, two.Notes)
	}
	if !reflect.DeepEqual(one.Global, two.Global) || !reflect.DeepEqual(one.Module, two.Module) {
		t.Errorf("the defaults of the example are others:\n%+v\n%+v\n%+v\n%+v", one.Global, two.Global, one.Module, two.Module)
	}
	if len(one.Mappers) != 1 || one.Mappers[0].Values.String("algorithm") != "sha256" {
		t.Errorf("mappers %+v", one.Mappers)
	}
}

// withoutShownDefaults leaves out the comment with the default of a key that is set on the next line.
func withoutShownDefaults(text string) string {
	var kept []string
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		name, _, isSetting := strings.Cut(strings.TrimSpace(line), " = ")
		key, isComment := strings.CutPrefix(name, "#")
		if isSetting && isComment && i+1 < len(lines) && strings.HasPrefix(strings.TrimSpace(lines[i+1]), key+" = ") {
			continue
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "\n")
}

func TestExampleHasEveryKey(t *testing.T) {
	text := string(example())
	for _, table := range schema.Tables() {
		for _, k := range table.Keys {
			if k.Status != schema.NoEffect && !strings.Contains(text, k.Name+" = ") {
				t.Errorf("%s %s is not in the example", table.Type, k.Name)
			}
		}
	}
}
