// Package layering holds no code: its tests hold the house to its plan. They parse every Go file
// and compare what it imports with the table of rows_test.go, and they look for the manners that a
// compiler does not check. They also find the types of everything in the product, hold its packages
// to their sizes (sizes_test.go), and see to it that a program of another module can name what a
// public package shows it (public_test.go).
package layering
