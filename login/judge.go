package login

import (
	"context"
	"log/slog"

	"pam_pkcs11/config"
	"pam_pkcs11/internal/certinfo"
	"pam_pkcs11/mapper"
	"pam_pkcs11/verify"
)

// Judge is what a login by one configuration asks about a certificate, for tools that show it without a login.
type Judge struct {
	verifier *verify.Verifier
	chain    *mapper.Chain
	trusted  bool
}

// NewJudge reads the authorities and sets up the mappers of a configuration, as a login does.
func (a *Authenticator) NewJudge(conf *config.Config) (*Judge, error) {
	t := &attempt{a: a, conf: conf, log: a.Logger}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	options, err := t.verifyOptions()
	if err != nil {
		return nil, err
	}
	j := &Judge{trusted: conf.Module.Policy.CA || conf.Global.UnverifiedNames}
	if j.verifier, err = verify.New(options); err != nil {
		return nil, err
	}
	j.chain, err = mapper.New(conf.Mappers, t.mapperOptions(j.verifier))
	return j, err
}

// Check says whether the certificate is good; others may be its issuers. The error is a *verify.Error or ctx's.
func (j *Judge) Check(ctx context.Context, cert *certinfo.Certificate, others []*certinfo.Certificate) (*verify.Result, error) {
	return j.verifier.Check(ctx, cert, others)
}

// Checked is a certificate for the mappers, with the chain that its check built; result may be nil.
func Checked(cert *certinfo.Certificate, result *verify.Result) mapper.Checked {
	if result == nil || !result.Anchored {
		return mapper.Checked{Cert: cert}
	}
	return mapper.Checked{Cert: cert, Chain: result.Chain}
}

// Find returns whose certificate it is, as a login without a user name does.
func (j *Judge) Find(ctx context.Context, cert mapper.Checked) (mapper.Result, error) {
	return j.chain.Find(ctx, cert, j.trusted)
}

// Explain shows what every mapper says; with a user, whether the certificate is his.
func (j *Judge) Explain(ctx context.Context, cert mapper.Checked, user string) ([]mapper.Explanation, error) {
	return j.chain.Explain(ctx, cert, user, j.trusted)
}
