package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"pam_pkcs11/config/edit"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/safefile"
)

// pkcs11_setup of pam_pkcs11 0.6 shows and changes three settings in the two files of /etc/pam_pkcs11. To set up a
// machine there is `pam-pkcs11 setup`.

// eventFile is the configuration of the event manager.
const eventFile = "/etc/pam_pkcs11/pkcs11_eventmgr.conf"

const oldSetupUsage = "list_modules, use_module, ins_action or rm_action; use_module=NAME, ins_action=COMMAND, rm_action=COMMAND"

var (
	modulePath = edit.BlockPath{{Kind: "pam_pkcs11"}}
	eventPath  = edit.BlockPath{{Kind: "pkcs11_eventmgr"}}
)

// oldFiles are the two files that are shown and changed.
type oldFiles struct{ module, event string }

func newOldSetup(files oldFiles) *cobra.Command {
	return &cobra.Command{
		Use:    "pkcs11_setup ACTION",
		Short:  "Show or change the module in use and the actions of the event manager",
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &cli.Error{Code: cli.Failure, Err: errors.New("give one of " + oldSetupUsage)}
			}
			return oldSetup(cmd, files, args[0])
		},
	}
}

// oldSetup carries out one action.
func oldSetup(cmd *cobra.Command, files oldFiles, action string) error {
	name, value, set := strings.Cut(action, "=")
	values := strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
	if set && len(values) == 0 {
		return fmt.Errorf("%s= needs a value", name)
	}

	file, path, key := files.event, eventPath, "action"
	switch name {
	case "list_modules":
		if set {
			return errors.New("list_modules takes no value")
		}
		return listModules(cmd, files.module)
	case "use_module":
		file, path, key = files.module, modulePath, "use_pkcs11_module"
	case "ins_action":
		path = append(path, edit.BlockName{Kind: "event", Name: "card_insert"})
	case "rm_action":
		path = append(path, edit.BlockName{Kind: "event", Name: "card_remove"})
	default:
		return fmt.Errorf("%q is no action: give one of %s", name, oldSetupUsage)
	}

	if !set {
		return showValues(cmd, file, path, key)
	}
	if name == "use_module" {
		return useModules(files, values)
	}
	return changeFile(file, func(d *edit.Document) error { return d.Set(path, key, values...) })
}

// readDocument reads one of the two files.
func readDocument(file string) (*edit.Document, error) {
	data, _, err := safefile.ReadFile(file, safefile.Configuration())
	if err != nil {
		return nil, err
	}
	return edit.ReadDocument(file, data)
}

// showValues prints the values of a key, one a line.
func showValues(cmd *cobra.Command, file string, path edit.BlockPath, key string) error {
	d, err := readDocument(file)
	if err != nil {
		return err
	}
	values := d.Values(path, key)
	if len(values) == 0 {
		return fmt.Errorf("%s: %s is not set", file, key)
	}
	for _, v := range values {
		fmt.Fprintln(cmd.OutOrStdout(), v)
	}
	return nil
}

// listModules prints the names of the blocks whose library is there and is a PKCS#11 library.
func listModules(cmd *cobra.Command, file string) error {
	d, err := readDocument(file)
	if err != nil {
		return err
	}
	for _, name := range d.Names(modulePath, "pkcs11_module") {
		if library := moduleOf(d, name); library == "builtin" || isPKCS11(library) {
			fmt.Fprintln(cmd.OutOrStdout(), name)
		}
	}
	return nil
}

// moduleOf is the library of a block, or builtin.
func moduleOf(d *edit.Document, name string) string {
	values := d.Values(append(modulePath, edit.BlockName{Kind: "pkcs11_module", Name: name}), "module")
	if len(values) > 0 {
		return values[0]
	}
	return name // a block builtin need not say so
}

// isPKCS11 reports whether a file is a shared object with the function that every PKCS#11 library has. It is not loaded:
// a library may do anything then.
func isPKCS11(library string) bool {
	object, err := elf.Open(library)
	if err != nil {
		return false
	}
	defer object.Close()
	symbols, err := object.DynamicSymbols()
	if err != nil {
		return false
	}
	for _, s := range symbols {
		if s.Name == "C_GetFunctionList" && s.Section != elf.SHN_UNDEF {
			return true
		}
	}
	return false
}

// useModules sets the modules of logins, which must have blocks, and the library of the first for the event manager.
func useModules(files oldFiles, names []string) error {
	var library string
	err := changeFile(files.module, func(d *edit.Document) error {
		blocks := d.Names(modulePath, "pkcs11_module")
		for _, name := range names {
			if !containsFold(blocks, name) && !strings.EqualFold(name, "builtin") {
				return fmt.Errorf("there is no block pkcs11_module %s", name)
			}
		}
		library = moduleOf(d, names[0])
		return d.Set(modulePath, "use_pkcs11_module", names...)
	})
	if err != nil {
		return err
	}

	if _, err := os.Stat(files.event); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return changeFile(files.event, func(d *edit.Document) error { return d.Set(eventPath, "pkcs11_module", library) })
}

// containsFold looks for a name without regard to case, as the files have it.
func containsFold(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// changeFile changes a file in one step: as it was, or as it shall be.
func changeFile(file string, change func(*edit.Document) error) error {
	d, err := readDocument(file)
	if err != nil {
		return err
	}
	if err := change(d); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return replaceFile(file, d.Bytes(), info)
}
