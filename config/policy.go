package config

import (
	"fmt"
	"slices"
	"strings"
)

// Policy is what cert_policy asks for.
type Policy struct {
	CA        bool   // chain to an authority of ca_dir, validity, usage
	Signature bool   // the card must prove that it holds the private key
	CRL       string // "", "offline", "online" or "auto"
	OCSP      bool
}

// newPolicy reads the words of the file. The words are known; problem is a contradiction.
func newPolicy(words []string) (p Policy, problem string) {
	p.Signature = true

	for _, w := range words {
		switch w {
		case "none":
			// `none, signature` is no contradiction: without ca the proof of possession is still
			// asked for.
			if slices.ContainsFunc(words,
				func(o string) bool { return o != "none" && o != "signature" }) {
				return p, "none contradicts the other words of cert_policy"
			}
		case "no_signature":
			if slices.Contains(words, "signature") {
				return p, "signature contradicts no_signature"
			}
		}

		if problem := p.add(w, words); problem != "" {
			return p, problem
		}
	}
	return p, ""
}

// add takes one word into the policy; all are those that came with it.
func (p *Policy) add(word string, all []string) (problem string) {
	switch word {
	case "ca":
		p.CA = true
	case "no_signature":
		p.Signature = false
	case "ocsp_on":
		p.OCSP = true
	case "crl_offline", "crl_online", "crl_auto":
		for _, other := range all {
			if strings.HasPrefix(other, "crl_") && other != word {
				return fmt.Sprintf("%s contradicts %s: the C module took the last one", word, other)
			}
		}
		p.CRL = strings.TrimPrefix(word, "crl_")
	}
	return ""
}

// withArgument adds the words of the module argument to those of the file; `none` clears first.
func (p Policy) withArgument(words []string) (Policy, string) {
	if slices.Contains(words, "none") {
		p = Policy{Signature: true}
	}

	if slices.Contains(words, "signature") && slices.Contains(words, "no_signature") {
		return p, "signature contradicts no_signature"
	}

	for _, w := range words {
		if problem := p.add(w, words); problem != "" {
			return p, problem
		}
	}
	return p, ""
}

// problem is what makes the whole policy impossible.
func (p Policy) problem() string {
	switch {
	case p.CA:
		return ""
	case p.CRL != "":
		return "crl_" + p.CRL + " needs ca: without it no signer of a list is known"
	case p.OCSP:
		return "ocsp_on needs ca: without it no signer of an answer is known"
	}
	return ""
}
