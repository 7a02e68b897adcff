package mapping

import (
	"context"
	"slices"
	"strings"
)

// Record holds what the mapper that is asked reads of the certificate, asks, and hears, for the log
// and for explanations. It travels in the context, so that mappers which record more than their
// answers need no other signature.
type Record struct {
	Read, Asked, Heard []string
	Nearest            func(context.Context) *NearLine // of a mapfile of which no line fits
}

type recordKey struct{}

// maxTold bounds each list of a record: a certificate may hold a thousand names.
const maxTold = 64

// WithRecord returns a context in which the functions below write to a new record.
func WithRecord(ctx context.Context) (context.Context, *Record) {
	r := &Record{}
	return context.WithValue(ctx, recordKey{}, r), r
}

// TellRead notes what the mapper reads from the certificate. No note may hold a secret.
func TellRead(ctx context.Context, texts ...string) {
	tell(ctx, func(r *Record) *[]string { return &r.Read }, texts)
}

// TellAsked notes whom the mapper asks what.
func TellAsked(ctx context.Context, texts ...string) {
	tell(ctx, func(r *Record) *[]string { return &r.Asked }, texts)
}

// TellHeard notes what came back.
func TellHeard(ctx context.Context, texts ...string) {
	tell(ctx, func(r *Record) *[]string { return &r.Heard }, texts)
}

// TellMissed notes that no line of a mapfile fits, and how the nearest one is found.
func TellMissed(ctx context.Context, nearest func(context.Context) *NearLine) {
	if r, ok := ctx.Value(recordKey{}).(*Record); ok {
		r.Nearest = nearest
	}
}

// NearLine is the line of a mapfile that comes nearest to a certificate that no line fits. It is
// for whoever looks for the mistake, and no part of an answer.
type NearLine struct {
	File string
	Line int    // 1 is the first
	Key  string // as it stands there
	Text string // the text of the certificate that it is near to
	Why  string // why it does not fit
}

// tell adds texts to a list of the record, each once. Without a record it does nothing.
func tell(ctx context.Context, list func(*Record) *[]string, texts []string) {
	r, ok := ctx.Value(recordKey{}).(*Record)
	if !ok {
		return
	}
	l := list(r)
	for _, t := range texts {
		if len(*l) < maxTold && !slices.Contains(*l, t) {
			*l = append(*l, t)
		}
	}
}

// Joined writes a list in one line.
func Joined(list []string) string { return strings.Join(list, "; ") }
