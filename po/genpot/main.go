// Command genpot writes the templates of the translations: po/pam_pkcs11.pot from the string
// constants named Msg… of login/messages.go, and po/tool/pam-pkcs11.pot from the sentences of the
// command-line tool. It is run by `make pot` in the top directory of the sources.
package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"strconv"
	"strings"
)

const (
	messagesFile = "login/messages.go"
	templateFile = "po/pam_pkcs11.pot"
)

func main() { os.Exit(run(os.Stderr)) }

func run(stderr io.Writer) int {
	source, err := os.ReadFile(messagesFile)
	if err != nil {
		fmt.Fprintln(stderr, "genpot:", err)
		return 1
	}
	messages, err := read(source)
	if err != nil {
		fmt.Fprintln(stderr, "genpot:", err)
		return 1
	}
	if err := os.WriteFile(templateFile, template(messages), 0o644); err != nil {
		fmt.Fprintln(stderr, "genpot:", err)
		return 1
	}

	sentences, err := toolSentences(".")
	if err != nil {
		fmt.Fprintln(stderr, "genpot:", err)
		return 1
	}
	if err := os.WriteFile(toolTemplateFile, toolTemplate(sentences), 0o644); err != nil {
		fmt.Fprintln(stderr, "genpot:", err)
		return 1
	}
	return 0
}

// message is one sentence and the name of its constant.
type message struct{ name, text string }

// read returns the messages of a Go file in the order in which they stand there, each text once.
func read(source []byte) ([]message, error) {
	file, err := parser.ParseFile(token.NewFileSet(), messagesFile, source, 0)
	if err != nil {
		return nil, err
	}

	var found []message
	seen := make(map[string]bool)
	for _, decl := range file.Decls {
		constants, ok := decl.(*ast.GenDecl)
		if !ok || constants.Tok != token.CONST {
			continue
		}
		for _, spec := range constants.Specs {
			value := spec.(*ast.ValueSpec)
			for i, name := range value.Names {
				if !strings.HasPrefix(name.Name, "Msg") {
					continue
				}

				// A constant that is put together could not be found again by its text.
				text, err := literal(value, i)
				if err != nil {
					return nil, fmt.Errorf("%s: %s: %w", messagesFile, name.Name, err)
				}
				if !seen[text] {
					seen[text] = true
					found = append(found, message{name.Name, text})
				}
			}
		}
	}

	if len(found) == 0 {
		return nil, fmt.Errorf("%s: no constant named Msg", messagesFile)
	}
	return found, nil
}

// literal returns the text of a constant, which must be one string literal.
func literal(value *ast.ValueSpec, i int) (string, error) {
	if i >= len(value.Values) {
		return "", fmt.Errorf("no value")
	}
	lit, ok := value.Values[i].(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", fmt.Errorf("not a string literal")
	}
	return strconv.Unquote(lit.Value)
}

// template returns the text of the .pot file. It has no date, so that it changes only when a
// message does.
func template(messages []message) []byte {
	var b bytes.Buffer
	head(&b, "pam_pkcs11", messagesFile)
	for _, m := range messages {
		fmt.Fprintf(&b, "\n#. %s\n#: %s\n", m.name, messagesFile)
		entry(&b, m.text)
	}
	return b.Bytes()
}

// head writes the beginning of a template.
func head(b *bytes.Buffer, name, source string) {
	fmt.Fprintf(b, `# Template of the translations of %s, written by "make pot" from %s.
#
# No translation may be longer than 512 bytes; the verbs (%%s) must be those of the English text, in its order.
msgid ""
msgstr ""
"Project-Id-Version: pam_pkcs11\n"
"Language: \n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Content-Transfer-Encoding: 8bit\n"
`, name, source)
}

// entry writes a message that is still to be translated.
func entry(b *bytes.Buffer, text string) {
	if strings.Contains(text, "%") {
		b.WriteString("#, c-format\n")
	}
	fmt.Fprintf(b, "msgid %s\nmsgstr \"\"\n", quote(text))
}

// quote writes a string as gettext does.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}
