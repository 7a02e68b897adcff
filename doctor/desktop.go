package doctor

func desktopChecks() []Check { return nil }
