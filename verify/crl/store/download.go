package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/internal/fetch"
	"pam_pkcs11/verify/crl"
)

// request is one question to an address.
type request struct {
	address
	issuer *certinfo.Certificate // of the certificate that is checked, nil for none
	held   origin                // of the list that the store has
	now    time.Time
	heard  func() // is called for each read, nil for nobody
}

// download asks the server, reads what comes in one pass, and keeps it when its signature is good.
func (f *fetcher) download(ctx context.Context, r request) (*fetchedList, error) {
	a := r.address
	o := r.held
	now := r.now
	if _, _, without := withoutServer(a.url); without {
		return nil, fmt.Errorf("%s: names no server: crl_ldap_server names those to ask, or crl_url another place of the list", a.url)
	}

	client := f.k.options.Client(a.configured || f.local, f.k.options.MaxSize)
	// What the store has is named to the server, so that an unchanged list is not sent again.
	answer, err := client.Get(ctx, a.url, fetch.Validators{ETag: o.ETag, LastModified: o.LastModified})
	if err != nil {
		return nil, clean(a.url, err)
	}

	if r.heard != nil && answer.Body != nil {
		answer.Body = &heardBody{answer.Body, r.heard}
	}

	if answer.NotModified {
		if o.URL == "" {
			return nil, fmt.Errorf("%s: the server says \"not modified\" and was not asked that", a.url)
		}
		// The answer confirms the stored list, and says nothing new of it.
		list, err := f.stored(a.url)
		if err == nil && f.store.writes {
			o.setIssuer(list.Head())
			if err := f.store.confirm(o, now); err != nil {
				f.k.options.Logger.Warn("CRL store cannot be written", "problem", err)
			}
		}
		return list, err
	}
	defer answer.Body.Close()
	list, temp, err := f.receive(answer)
	if err != nil {
		return nil, clean(a.url, err)
	}
	// Without a store, or with a full disk, the list serves this login alone.
	if temp == "" {
		return list, nil
	}

	if err := f.file(temp, a.url, answer.Validators, r.issuer, list.pass, now); err != nil {
		// An older list than one that was seen is no use to the login either.
		if errors.Is(err, crl.ErrOlder) {
			return nil, clean(a.url, err)
		}
		f.k.options.Logger.Warn("CRL not kept", "url", a.url, "problem", err)
		list.notKept = err
	}

	return list, nil
}

// receive makes the pass over a body, which goes to a temporary file of the store as well. That the
// disk is full, or cannot be written, is no hindrance: the login has what it needs.
func (f *fetcher) receive(answer *fetch.Answer) (list *fetchedList, temp string, err error) {
	var scan *crl.Scan
	asked := f.k.wanted.Set()

	read := false
	if f.store != nil && f.store.writes {
		// An error of the list ends the pass; one of the disk only ends the keeping.
		var scanErr error
		temp, err = f.store.prepare(f.store.path(listDirName), func(w io.Writer) error {
			read = true
			kept := &lenientWriter{Writer: w}
			if scan, scanErr = crl.ScanBody(io.TeeReader(answer.Body, kept), asked, nil); scanErr != nil {
				return scanErr
			}
			return kept.err
		})
		if err != nil && scanErr == nil {
			f.k.options.Logger.Warn("CRL not kept", "problem", err)
			temp = ""
			err = nil
		}
	}

	// The store could not even begin a file: nothing of the body has been read.
	if !read {
		scan, err = crl.ScanBody(answer.Body, asked, nil)
	}
	if err != nil {
		return nil, "", err
	}

	stream := crl.NewScanned(f.k.wanted, scan, errors.New("was not kept, so another certificate cannot be looked for"))
	return &fetchedList{List: stream, pass: scan}, temp, nil
}

// lenientWriter does not let a full disk end the reading.
type lenientWriter struct {
	io.Writer
	err error
}

// Write writes until the first error, and passes over the rest.
func (b *lenientWriter) Write(p []byte) (int, error) {
	if b.err == nil {
		_, b.err = b.Writer.Write(p)
	}
	return len(p), nil
}

// file puts a received CRL into the store, when a known CA signed it and it is not from the future.
func (f *fetcher) file(temp, url string, v fetch.Validators, issuer *certinfo.Certificate, scan *crl.Scan, now time.Time) error {
	signer := f.signer(issuer, scan)
	switch {
	case signer == nil:
		return errors.Join(errors.New("not signed by a CA at hand (of ca_dir, or below them of a chain that logged in)"), f.store.fs.Remove(temp))
	case now.Add(f.k.options.Rules.ClockSkew).Before(scan.ThisUpdate):
		return errors.Join(errors.New("not valid yet"), f.store.fs.Remove(temp))
	}
	return f.store.keep(temp, url, v, signer.RawSPKI, &scan.Head, now)
}

// signer finds the certificate that signed a CRL: the issuer of the certificate that is checked,
// another CA of the paths that were checked, or a CA of ca_dir.
func (f *fetcher) signer(issuer *certinfo.Certificate, scan *crl.Scan) *certinfo.Certificate {
	candidates := append(f.signers(), f.k.authorities.Named(scan.Issuer)...)
	if issuer != nil {
		candidates = append([]*certinfo.Certificate{issuer}, candidates...)
	}
	return crl.SignerOf(scan, candidates)
}
