package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// toolTemplateFile is the template of the command-line tool.
const toolTemplateFile = "po/tool/pam-pkcs11.pot"

// toolPrograms are the directories whose help is translated: the short texts of commands, and those
// of flags.
var toolPrograms = []string{"cmd/pam-pkcs11"}

// sentenceCalls are the functions whose first argument is a sentence of the tool, in any package
// that imports internal/message or is a tool's.
var sentenceCalls = []string{"Textf", "say", "refused"}

// flagCalls are the methods of a flag set that take the flag's description as their last argument.
var flagCalls = regexp.MustCompile(
	`^(Bool|Int|Uint|String|StringSlice|StringArray|Duration|Count|Var)(Slice)?(Var)?P?$`)

// toolSentences finds the sentences of the tool below a directory, each with the files that have
// it.
func toolSentences(root string) (map[string][]string, error) {
	found := make(map[string][]string)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		// Hidden directories, test data and what was built have no sentences of the tool.
		isOther := strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" ||
			path == "build"
		switch {
		case entry.IsDir() && path != root && isOther:
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") ||
			strings.HasSuffix(path, "_test.go"):
			return nil
		}

		texts, err := sentencesOf(path, nil)
		for _, text := range texts {
			if files := found[text]; !slices.Contains(files, path) {
				found[text] = append(files, path)
			}
		}
		return err
	})
	return found, err
}

// sentencesOf finds those of one file. A sentence that is no constant text is an error: nobody
// could translate it.
func sentencesOf(path string, source any) ([]string, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, 0)
	if err != nil {
		return nil, err
	}
	isTool := slices.Contains(toolPrograms, filepath.ToSlash(filepath.Dir(path)))
	if !isTool && !slices.ContainsFunc(file.Imports, isMessageImport) {
		return nil, nil
	}

	var texts []string
	var faults []error
	ast.Inspect(file, func(n ast.Node) bool {
		text, is, ok := sentence(n, isTool)
		switch {
		case is && ok && text != "":
			texts = append(texts, text)
		case is && !ok:
			faults = append(faults, fmt.Errorf("%s: the sentence is not a constant text",
				files.Position(n.Pos())))
		}
		return true
	})
	return texts, errors.Join(faults...)
}

// isMessageImport reports whether an import is that of sentences.
func isMessageImport(i *ast.ImportSpec) bool {
	return i.Path.Value == `"pam_pkcs11/internal/message"`
}

// sentence is the sentence that a node of a file has: is reports whether it should have one, ok
// whether it is a constant.
func sentence(n ast.Node, isTool bool) (text string, is, ok bool) {
	switch x := n.(type) {
	// A function of ours that passes its format on is found where it is called.
	case *ast.CallExpr:
		name := calledName(x)
		if slices.Contains(sentenceCalls, name) && len(x.Args) > 0 && !passedOn(x.Args[0]) {
			text, ok = constant(x.Args[0])
			return text, true, ok
		}
		if isTool && flagCalls.MatchString(name) && len(x.Args) >= 3 {
			text, ok = constant(x.Args[len(x.Args)-1])
			return text, ok, ok
		}

	case *ast.KeyValueExpr:
		if key, isIdent := x.Key.(*ast.Ident); isTool && isIdent &&
			(key.Name == "Short" || key.Name == "Long") {
			text, ok = constant(x.Value)
			return text, ok && !strings.Contains(text, "\n"), ok
		}
	}
	return "", false, false
}

// passedOn reports whether an argument is the format that a function was itself given.
func passedOn(e ast.Expr) bool {
	name, isIdent := e.(*ast.Ident)
	return isIdent && name.Name == "format"
}

// calledName is the last name of what is called.
func calledName(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// constant is the value of a text that is written out, in one piece or several.
func constant(e ast.Expr) (string, bool) {
	switch x := e.(type) {
	case *ast.BasicLit:
		if x.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(x.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		left, ok := constant(x.X)
		right, too := constant(x.Y)
		return left + right, ok && too && x.Op == token.ADD
	}
	return "", false
}

// toolTemplate is the text of the tool's template, its sentences sorted by the first file that has
// them.
func toolTemplate(sentences map[string][]string) []byte {
	order := slices.SortedFunc(maps.Keys(sentences), func(a, b string) int {
		if c := strings.Compare(sentences[a][0], sentences[b][0]); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})

	var b bytes.Buffer
	head(&b, "the tool pam-pkcs11", "the sources of the tools")
	for _, text := range order {
		fmt.Fprintf(&b, "\n#: %s\n", strings.Join(sentences[text], " "))
		entry(&b, text)
	}
	return b.Bytes()
}
