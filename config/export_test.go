package config

// What the tests, which are outside of the package, see inside of it.

// MaxArguments is maxArguments.
const MaxArguments = maxArguments

// Allows is allows.
func (p Persons) Allows() bool { return p.allows() }

// ServiceRule is what is known of a key that a service block may hold.
type ServiceRule struct {
	Key    string
	Looser func(l, e *Global) bool // nil: never
	Expect string
}

// ServiceRules are those of the file's own keys.
func ServiceRules() []ServiceRule {
	var all []ServiceRule
	for _, rule := range serviceRules {
		all = append(all, ServiceRule{Key: rule.key, Looser: rule.looser, Expect: rule.expect})
	}
	return all
}

// ServiceModuleKeys are the keys of the blocks pkcs11_module that a service block may hold.
func ServiceModuleKeys() []string {
	var keys []string
	for _, rule := range serviceModuleRules {
		keys = append(keys, rule.key)
	}
	return keys
}

// LooserKeys are the keys by which the block l lets in what e keeps out.
func LooserKeys(l, e *Module) []string {
	var keys []string
	for _, rule := range looserRules {
		if rule.looser(l, e) {
			keys = append(keys, rule.key)
		}
	}
	return keys
}

// InForce is inForce.
func (m Mapper) InForce() Settings { return m.inForce() }

// ChangeableKeys are the keys that something else than the file may change: those of the file's own
// level, and those of blocks pkcs11_module.
func ChangeableKeys() (globals, modules []string) {
	for _, c := range changeableGlobals {
		globals = append(globals, c.key)
	}
	for _, c := range changeableModules {
		modules = append(modules, c.key)
	}
	return globals, modules
}
