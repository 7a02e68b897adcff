package scconf

import "testing"

func TestFormatKeepsComments(t *testing.T) {
	text := `# the head
pam_pkcs11 {   # behind the brace
 # about debug
 debug = true;   # behind debug

 use_mappers=cn , "d e"
 pkcs11_module soft{ module = /a#b; }  # soft
 # at the end
}
# the tail`
	want := `# the head
pam_pkcs11 {
  # behind the brace
  # about debug
  debug = true; # behind debug

  use_mappers = cn, "d e";
  pkcs11_module soft {
    module = /a#b;
  } # soft
  # at the end
}
# the tail
`
	tree, err := ParseFile("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(tree.Format()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := ParseFile("f", []byte(want))
	if err != nil || string(again.Format()) != want {
		t.Errorf("the second time: %v\n%s", err, again.Format())
	}
}

func TestSet(t *testing.T) {
	tree, err := ParseFile("f", []byte("pam_pkcs11 {\n  # which\n  use_mappers = a;\n  debug = true;\n  Use_Mappers = b;\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	block := tree.Find("PAM_PKCS11", "").Block
	block.Set("use_mappers", "cn", "pwent")
	block.Set("use_pkcs11_module", "a name; with = {all} # of it")
	want := "pam_pkcs11 {\n  # which\n  use_mappers = cn, pwent;\n  debug = true;\n  use_pkcs11_module = \"a name; with = {all} # of it\";\n}\n"
	if got := string(tree.Format()); got != want {
		t.Errorf("got\n%s", got)
	}
	if CanWrite(`a"b`) || CanWrite("a\nb") || !CanWrite("a\tb {};") {
		t.Error("CanWrite")
	}
}
