package doctor

// stackChecks are those about PAM stacks.
func stackChecks() []Check { return nil }
