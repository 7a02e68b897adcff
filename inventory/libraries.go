package inventory

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"pam_pkcs11/internal/diagnosis"
	"pam_pkcs11/internal/message"
	"pam_pkcs11/internal/probe"
	"pam_pkcs11/pkcs11/find"
	"pam_pkcs11/token"
)

// Limits of the look at libraries.
const (
	libraryTime     = 10 * time.Second // of one
	librariesAtOnce = 4
	maxLabels       = 64 // of the tokens of one
)

// libraryID is the finding of a PKCS#11 library that may know a card.
const libraryID = "library"

// libraries says which cards the libraries of the machine know. Each is loaded in a child process
// of its own.
func (l *looking) libraries(ctx context.Context) {
	var usable []find.Library
	for _, library := range find.Libraries(l.Root) {
		if library.Usable() {
			usable = append(usable, library)
		}
	}

	// Each has its place beforehand, so that the order is that of the libraries and not of their
	// ends.
	findings := make(diagnosis.Findings, len(usable))
	free := make(chan struct{}, librariesAtOnce)
	var all sync.WaitGroup
	for i, library := range usable {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()

			ctx, cancel := context.WithTimeout(ctx, libraryTime)
			defer cancel()
			answer, err := probe.Library(ctx, library.Path, nil)
			findings[i] = libraryFinding(library.Path, answer, err)
		})
	}

	all.Wait()
	l.found.Findings.Add(findings...)
}

// libraryFinding says which cards a library knows.
func libraryFinding(path string, answer *probe.Answer, err error) diagnosis.Finding {
	f := diagnosis.Finding{ID: libraryID, Severity: diagnosis.Note, Subject: token.Printable(path)}

	if err == nil && answer.Failure != nil {
		err = answer.Failure
	}
	if err != nil {
		// The subject has the path: it is not said twice.
		text := strings.TrimPrefix(err.Error(), "PKCS#11 library "+path+": ")
		f.Fact = message.Textf("This PKCS#11 library does not work: %s", token.Printable(text))
		return f
	}

	var labels []string
	for _, slot := range answer.Slots {
		if slot.Card != nil && slot.Failure == nil && len(labels) < maxLabels {
			labels = append(labels, fmt.Sprintf("%q", token.Printable(slot.Card.Label)))
		}
	}
	f.Fact = message.Textf("This PKCS#11 library knows: %s", strings.Join(labels, ", "))
	if len(labels) == 0 {
		f.Fact = message.Textf("This PKCS#11 library sees no card.")
	}
	return f
}
