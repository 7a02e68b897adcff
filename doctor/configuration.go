package doctor

func configurationChecks() []Check { return nil }
