package resmgr

import (
	"strings"
	"testing"

	"pam_pkcs11/pcsc"
)

// TestReaderNames: every name is printable ASCII of at most 127 bytes, whatever the reader says of itself, and what sets
// readers apart is at its end.
func TestReaderNames(t *testing.T) {
	for _, row := range []struct {
		name                   string
		options                NameOptions
		product, iface, serial string
		want                   string
	}{
		{
			name: "plain", product: "ACME Reader", iface: "Contact", serial: "0815",
			want: "ACME Reader [Contact] (0815) 02 01",
		},
		{name: "letters with accents", product: "Lecteur à puce", want: "Lecteur .. puce 02 01"},
		{
			name: "everywhere", product: "Ж", iface: "é", serial: "ßß",
			want: ".. [..] (....) 02 01",
		},
		{name: "half a character", product: "Reader \xC3", want: "Reader . 02 01"},
		{name: "control characters", product: "Rea\x1b[1mder\n", want: "Rea.[1mder. 02 01"},
		{name: "NUL", product: "Reader\x00\x00", want: "Reader 02 01"},
		{
			name: "longer than a name", product: strings.Repeat("é", 80),
			want: strings.Repeat(".", 121) + " 02 01",
		},
		{
			name: "text of the administrator", product: "Reader", options: NameOptions{Extend: " №1"},
			want: "Reader ...1 02 01",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := row.options.readerName(row.product, row.iface, row.serial, 2, 1)
			if got != row.want || len(got) > pcsc.MaxReaderName-1 || plain(got) != got {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

// TestIgnoredNames: an administrator writes a name as the reader has it, or as programs see it.
func TestIgnoredNames(t *testing.T) {
	for _, part := range []string{"Lecteur à", "Lecteur ..", "puce"} {
		o := NameOptions{Ignore: []string{"", part}}
		if !o.ignored(o.text("Lecteur à puce", "", "")) {
			t.Errorf("%q does not ignore it", part)
		}
	}
	o := NameOptions{Ignore: []string{"", "Lecteur e"}}
	if o.ignored(o.text("Lecteur à puce", "", "")) {
		t.Error("another name ignores it")
	}
}
