package doctor

func installationChecks() []Check { return nil }
