package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"testing"
)

func TestPicturesAreUpToDate(t *testing.T) {
	t.Chdir("../..")
	for file, draw := range pictures {
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, draw()) {
			t.Errorf("%s is not what is drawn: run make picture", file)
		}

		decoder := xml.NewDecoder(bytes.NewReader(have))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
}
