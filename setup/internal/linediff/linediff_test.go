package linediff

import (
	"strings"
	"testing"
)

func TestUnified(t *testing.T) {
	const four = "1\n2\n3\n4\n"
	for name, tt := range map[string]struct{ before, after, want string }{
		"equal":          {four, four, ""},
		"both empty":     {"", "", ""},
		"new":            {"", "1\n2\n", "@@ -0,0 +1,2 @@|+1|+2"},
		"gone":           {"1\n", "", "@@ -1,1 +0,0 @@|-1"},
		"one line":       {four, "1\n2\nx\n4\n", "@@ -2,3 +2,3 @@| 2|-3|+x| 4"},
		"one more":       {four, "1\n2\n3\n3a\n4\n", "@@ -3,2 +3,3 @@| 3|+3a| 4"},
		"two places":     {"1\n2\n3\n4\n5\n6\n7\n", "1\n2\n4\n5\n6\n7\n8\n", "@@ -2,3 +2,2 @@| 2|-3| 4|@@ -7,1 +6,2 @@| 7|+8"},
		"places touch":   {four, "0\n2\n3\n5\n", "@@ -1,4 +1,4 @@|-1|+0| 2| 3|-4|+5"},
		"end of file":    {"1\n", "1", "@@ -1,1 +1,1 @@|-1|+1\n\\ No newline at end of file"},
		"common in rows": {"a\nb\nc\n", "b\nc\na\n", "@@ -1,3 +1,3 @@|-a| b| c|+a"},
	} {
		if got := strings.Join(Unified(tt.before, tt.after, 1), "|"); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, tt.want)
		}
	}
}

// TestLarge: two long texts without a common line are compared without a table of their product.
func TestLarge(t *testing.T) {
	before, after := strings.Repeat("a\n", 30000), strings.Repeat("b\n", 30000)
	if got := len(Unified(before, after, 3)); got != 60001 {
		t.Error(got)
	}
}
