package message

import (
	"encoding/json"
	"fmt"
	"testing"
)

// shouting is a language.
type shouting struct{}

func (shouting) Get(id string) string               { return id + "!" }
func (shouting) Getf(id string, args ...any) string { return fmt.Sprintf(id+"!", args...) }

func TestText(t *testing.T) {
	inner := Textf("the card of %s", "alice")
	outer := Textf("%s is in reader %d", inner, 2)

	if got := outer.String(); got != "the card of alice is in reader 2" {
		t.Error(got)
	}
	if got := outer.In(shouting{}); got != "the card of alice! is in reader 2!" {
		t.Error(got)
	}
	if got := Textf("100% sure").String(); got != "100% sure" {
		t.Error(got)
	}
	if got := outer.In(nil); got != outer.String() {
		t.Error(got)
	}

	encoded, err := json.Marshal(struct{ Fact Text }{outer})
	if err != nil || string(encoded) != `{"Fact":"the card of alice is in reader 2"}` {
		t.Error(string(encoded), err)
	}
	if !(Text{}).Empty() || (Text{}).In(shouting{}) != "" {
		t.Error("the zero text is not empty")
	}
}
