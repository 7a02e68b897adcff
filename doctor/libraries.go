package doctor

func libraryChecks() []Check { return nil }
