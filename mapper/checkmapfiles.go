package mapper

import (
	"context"

	"pam_pkcs11/config"
	"pam_pkcs11/mapper/internal/mapfile"
)

// LineFault is a line of a mapfile that fits no certificate, or that its writer may have meant
// otherwise.
type LineFault = mapfile.LineFault

// CheckMapfiles reads the mapfiles of the blocks line by line, those that are files, and returns
// the lines that can never match, and a note for each file with lines that are read as they are
// meant. It leaves files that cannot be opened to Inspect, and leaves out what ctx ends.
func CheckMapfiles(ctx context.Context, blocks []config.Mapper, o Options) []LineFault {
	o = o.Complete()
	var faults []LineFault
	for _, b := range blocks {
		faults = append(faults, mapfile.Check(ctx, b.Mapfile(), b.Settings, o)...)
	}
	return faults
}
