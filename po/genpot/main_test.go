package main

import (
	"bytes"
	"os"
	"testing"
)

func TestTheTemplateIsUpToDate(t *testing.T) {
	t.Chdir("../..")
	source, err := os.ReadFile(messagesFile)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := read(source)
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(templateFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, template(messages)) {
		t.Errorf("%s is not what login/messages.go says: run make pot", templateFile)
	}
}

func TestRead(t *testing.T) {
	tests := map[string]struct {
		source string
		want   []message
		fails  bool
	}{
		"in order, each text once": {
			source: "package p\nconst (\nMsgB = \"b %s\"\nMsgA = \"a\"\nMsgC = \"a\"\nother = \"o\"\n)",
			want:   []message{{"MsgB", "b %s"}, {"MsgA", "a"}},
		},
		"no message at all":      {source: "package p\nconst x = \"y\"", fails: true},
		"a message that is made": {source: "package p\nconst MsgA = \"a\" + \"b\"", fails: true},
		"no Go":                  {source: "const", fails: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := read([]byte(tt.source))
			if (err != nil) != tt.fails {
				t.Fatalf("error %v", err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			for i := range got {
				if got[i] != tt.want[i] {
					t.Errorf("got %v, want %v", got[i], tt.want[i])
				}
			}
		})
	}
}
