package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of the sources; CHANGELOG.md tells what is in it.
const release = "1.0.0-dev"

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			toolchain := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				toolchain = " (" + info.GoVersion + ")"
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s%s\n", program, release, toolchain)
			return err
		},
	}
}
