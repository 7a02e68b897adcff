package confcheck

import (
	"context"
	"fmt"
)

// checkResponders adds what can be known about OCSP before a login: CA certificates without a
// responder and, when asked to go online, responders that do not answer.
func checkResponders(i *inspection) error {
	if !i.conf.Module.Policy.OCSP {
		return nil
	}
	if i.verifier == nil {
		i.add(RefusesSome, KindOCSP, i.File+": OCSP responders were not looked at")
		return nil
	}

	for _, c := range i.verifier.WithoutResponder() {
		i.add(RefusesSome, KindOCSP,
			fmt.Sprintf(
				"%s: CA certificate %q names no OCSP responder: set ocsp_url, or a CRL word beside ocsp_on",
				i.conf.Module.CADir, c.Subject.RFC4514()))
	}
	if i.Online {
		i.askResponders()
	}
	return nil
}

func (i *inspection) askResponders() {
	ctx, cancel := context.WithTimeout(context.Background(), i.conf.Global.VerifyTimeout)
	defer cancel()

	asked := i.verifier.AskResponders(ctx)
	for _, r := range asked {
		weight := Minor
		said := "answers"
		if r.Err != nil {
			// One silent responder need not refuse a login: another, or a CRL, may do.
			weight = RefusesSome
			said = "gives no answer that can be believed: " + r.Err.Error()
			i.Silent = true
		}

		i.add(weight, KindOCSP, fmt.Sprintf("%s: OCSP responder asked about %q %s", r.URL,
			r.Cert.Subject.RFC4514(), said))
	}
	if len(asked) == 0 {
		i.add(Minor, KindOCSP, i.conf.Module.CADir+
			": no OCSP responder is known before a card is there")
	}
}
