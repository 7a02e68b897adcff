package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"testing"
)

func TestThePictureIsUpToDate(t *testing.T) {
	t.Chdir("../..")
	have, err := os.ReadFile(outputFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, draw()) {
		t.Errorf("%s is not what is drawn: run make picture", outputFile)
	}

	decoder := xml.NewDecoder(bytes.NewReader(have))
	for {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
