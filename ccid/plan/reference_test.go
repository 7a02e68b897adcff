//go:build reference

package plan_test

import (
	"bytes"
	"encoding/csv"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pam_pkcs11/ccid/ccidtest"
	"pam_pkcs11/ccid/device"
	"pam_pkcs11/ccid/internal/readertest"
	"pam_pkcs11/ccid/plan"
)

var update = flag.Bool("update", false, "write the golden tables anew")

// TestPlans: each interface descriptor parses from its raw bytes, and its plan is that of the golden table.
func TestPlans(t *testing.T) {
	all := readertest.Descriptions(t)
	var table bytes.Buffer
	interfaces := 0
	for _, row := range csvRows(t) {
		p, in := nextInterface(t, all, row["file"])
		checkRow(t, row, in)
		fmt.Fprintf(&table, "%s %04X:%04X %X.%02X #%d: %s\n", row["file"], p.Info.Vendor, p.Info.Product, p.Info.Release>>8,
			p.Info.Release&0xFF, in.Number, plan.New(p.Info, in, plan.Options{}))
		interfaces++
	}
	if interfaces != 773 {
		t.Errorf("%d interfaces, want 773", interfaces)
	}
	golden(t, "plans.golden", table.Bytes())
}

// nextInterface parses the bytes of the next interface of a file, and takes it out of all.
func nextInterface(t *testing.T, all map[string][]*ccidtest.Profile, file string) (*ccidtest.Profile, *device.Interface) {
	t.Helper()
	if len(all[file]) == 0 {
		t.Fatalf("%s: the table has more interfaces than the description", file)
	}
	p := all[file][0]
	number := p.Interfaces[0].Number
	configurations, err := device.ParseConfigurations(p.Configuration())
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	found := &configurations[0].Interfaces[0]
	if found.Number != number {
		t.Fatalf("%s: interface %d came as %d", file, number, found.Number)
	}
	if p.Interfaces = p.Interfaces[1:]; len(p.Interfaces) == 0 {
		all[file] = all[file][1:]
	}
	return p, found
}

// csvRows are the rows of ccid_readers.csv, by column.
func csvRows(t *testing.T) []map[string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(readertest.Data(t), "ccid_readers.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, fields := range raw[1:] {
		row := map[string]string{}
		for i, name := range raw[0] {
			row[name] = fields[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// checkRow compares what was parsed from the bytes with the numbers of the table.
func checkRow(t *testing.T, row map[string]string, in *device.Interface) {
	t.Helper()
	for name, got := range map[string]uint64{
		"bInterfaceNumber": uint64(in.Number), "bNumEndpoints": uint64(in.Endpoints), "bInterfaceClass": uint64(in.Class), "bInterfaceProtocol": uint64(in.Protocol),
		"bMaxSlotIndex": uint64(in.CCID.MaxSlotIndex), "bVoltageSupport": uint64(in.CCID.VoltageSupport),
		"dwProtocols": uint64(in.CCID.Protocols), "dwDataRate": uint64(in.CCID.DataRate), "dwMaxDataRate": uint64(in.CCID.MaxDataRate),
		"bNumDataRatesSupported": uint64(in.CCID.DataRatesSupported), "dwMaxIFSD": uint64(in.CCID.MaxIFSD),
		"dwFeatures": uint64(in.CCID.Features), "dwMaxCCIDMessageLength": uint64(in.CCID.MaxMessageLength),
		"wLcdLayout": uint64(in.CCID.LCDLayout), "bPINSupport": uint64(in.CCID.PINSupport), "bMaxCCIDBusySlots": uint64(in.CCID.MaxBusySlots),
	} {
		if want, err := strconv.ParseUint(row[name], 0, 64); err != nil || got != want {
			t.Errorf("%s #%d: %s is %d, want %s", row["file"], in.Number, name, got, row[name])
		}
	}
}

// golden compares a table with the file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("line %d of %s:\n got %s\nwant %s", i+1, name, g[i], w[i])
		}
	}
	if len(g) != len(w) {
		t.Errorf("%s: %d lines, want %d", name, len(g), len(w))
	}
}
