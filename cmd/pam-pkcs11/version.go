package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"pam_pkcs11/internal/release"
)

// newVersion is the command `pam-pkcs11 version`.
func newVersion() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := version{Version: release.Version}
			if info, ok := debug.ReadBuildInfo(); ok {
				v.Go = info.GoVersion
			}
			return v.print(outputOf(cmd))
		},
	}
	jsonFlag(cmd)
	return cmd
}

// version is what this program was made of.
type version struct {
	Version string `json:"version"`
	Go      string `json:"go,omitempty"`
}

// print prints it on one line, or as JSON.
func (v version) print(o *output) error {
	if o.json {
		return o.encode(v)
	}

	toolchain := ""
	if v.Go != "" {
		toolchain = " (" + v.Go + ")"
	}
	_, err := fmt.Fprintf(o.out, "%s %s%s\n", program, v.Version, toolchain)
	return err
}
