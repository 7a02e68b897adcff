// Package layering holds no code: its tests hold the house to its plan. They parse every Go file and compare what
// it imports with the table of rows_test.go, and they look for the manners that a compiler does not check.
package layering
