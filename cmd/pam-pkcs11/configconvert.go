package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"pam_pkcs11/config"
	"pam_pkcs11/config/edit"
	"pam_pkcs11/internal/cli"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/redact"
	"pam_pkcs11/internal/safefile"
)

// convertTool is the command `pam-pkcs11 config convert`.
type convertTool struct {
	file, output string
	force        bool
}

func newConfigConvert() *cobra.Command {
	c := &convertTool{}
	command := &cobra.Command{
		Use:   "convert",
		Short: "Write a file of pam_pkcs11 0.6 as one would write it today",
		Long: "convert writes a pam_pkcs11.conf as one would write it today, with the same meaning: keys without effect become\n" +
			"comments, values get the spelling of pam_pkcs11.conf(5), and what is given twice is put together. Comments stay. It\n" +
			"prints the new file, and on standard error a line for each change; with --output it writes the file, and prints the\n" +
			"changes. An existing file is replaced only with --force, in one step, and keeps its mode and owner.\n\n" +
			"A file that logins refuse is not converted: see its errors with config check. It ends with 78 then. What a file means\n" +
			"otherwise than to pam_pkcs11 0.6 is told by config check --old.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd) },
	}

	flags := command.Flags()
	flags.StringVar(&c.file, "file", config.DefaultFile, "configuration file")
	flags.StringVar(&c.output, "output", "", "write to this file")
	flags.BoolVar(&c.force, "force", false, "replace the file of --output where it is there")
	jsonFlag(command)
	return command
}

// convertAnswer is the JSON of config convert.
type convertAnswer struct {
	File    string          `json:"file"`
	Output  string          `json:"output,omitempty"`
	Changes []convertChange `json:"changes"`
	Text    string          `json:"text,omitempty"` // of the new file, where it was not written
}

// convertChange is a setting or block that is written otherwise.
type convertChange struct {
	Line   int          `json:"line"` // of the old file
	Key    string       `json:"key"`
	Reason edit.Reason  `json:"reason"`
	Was    string       `json:"was"`
	Now    string       `json:"now,omitempty"`
	Text   message.Text `json:"text"`
}

func (c *convertTool) run(cmd *cobra.Command) error {
	if c.force && c.output == "" {
		return &cli.Error{Code: cli.Usage, Err: errors.New("--force is for --output")}
	}
	info, err := os.Stat(c.file)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}
	data, _, err := safefile.ReadFile(c.file, safefile.Configuration())
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: safefile.Reason(c.file, err)}
	}
	converted, err := edit.Convert(c.file, data)
	if err != nil {
		return &cli.Error{Code: cli.Config, Err: err}
	}

	answer := &convertAnswer{File: c.file, Output: c.output, Changes: c.changes(converted)}
	if c.output != "" {
		if err := c.write(converted.Text, info); err != nil {
			return err
		}
	} else {
		answer.Text = string(converted.Text)
	}
	return c.tell(cmd, answer)
}

// changes are those of a conversion, without secrets.
func (c *convertTool) changes(converted *edit.Converted) []convertChange {
	redactor := &redact.Redactor{WithNames: true}
	all := []convertChange{}
	for _, change := range converted.Changes {
		told := convertChange{
			Line:   change.Line,
			Key:    change.Key,
			Reason: change.Reason,
			Was:    redactor.Text(change.Was),
			Now:    redactor.Text(change.Now),
		}
		told.Text = told.sentence(change.Detail)
		all = append(all, told)
	}
	return all
}

// sentence tells a change.
func (c convertChange) sentence(detail string) message.Text {
	switch c.Reason {
	case edit.NoEffect:
		return message.Textf("%q has no effect any more, and is a comment now: %s", c.Was, detail)
	case edit.Unread:
		return message.Textf("%q is not read, and is a comment now: %s", c.Was, detail)
	case edit.Repeated:
		return message.Textf("%q is there before, and is a comment now: %s", c.Was, detail)
	case edit.Joined:
		return message.Textf("%q is there before, where its values stand now", c.Was)
	case edit.Foreign:
		return message.Textf("%q stays as it is: %s", c.Was, detail)
	}
	return message.Textf("%q is written as %q now", c.Was, c.Now)
}

// write makes the new file, or puts it into the place of the one that is there.
func (c *convertTool) write(text []byte, source os.FileInfo) error {
	there, err := os.Lstat(c.output)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = createFile(c.output, text, source)
	case err != nil:
	case !c.force:
		err = fmt.Errorf("%s: %w (--force replaces it)", c.output, os.ErrExist)
	case !there.Mode().IsRegular():
		err = fmt.Errorf("%s: is no regular file; name the file itself", c.output)
	default:
		err = replaceFile(c.output, text, there)
	}
	return err
}

// tell prints the new file or where it is, and what is otherwise in it.
func (c *convertTool) tell(cmd *cobra.Command, answer *convertAnswer) error {
	o := outputOf(cmd)
	if o.json {
		return o.encode(answer)
	}

	changes := *o
	if c.output == "" {
		if _, err := fmt.Fprint(o.out, answer.Text); err != nil {
			return err
		}
		changes.out = cmd.ErrOrStderr()
	}
	for _, change := range answer.Changes {
		_, err := fmt.Fprintf(changes.out, "%s:%d: %s\n", c.file, change.Line, shown(change.Text.In(o.catalogue)))
		if err != nil {
			return err
		}
	}
	if c.output == "" {
		return nil
	}
	return o.say("Written: %s", c.output)
}
