package schema

// serviceKeys are the keys that a block service may hold, each with what it may say there. Those of
// package config's table (service.go) are the same.
var serviceKeys = []struct{ name, doc string }{
	{"card_only", "true."},
	{"foreign_card", "refuse."},
	{"empty_pin", "error."},
	{"require_pin", "true."},
	{"pin_pattern", "Where the file has none: the form that every PIN must have."},
	{"forward_pin", "off."},
	{"remote_login", "refuse."},
	{"remote_login_hides", "true."},
	{"loopback_is_local", "false."},
	{"wait_for_card", "Either value."},
	{"wait_for_card_timeout", "No longer than the file's."},
	{"verify_timeout", "No longer than the file's."},
	{"err_display_time", "Any time."},
	{"quiet", "Either value."},
	{"debug", "Either value."},
	{"card_required_users", "More users who must use their card."},
	{"card_required_groups", "More groups whose members must use their card."},
	{"card_others", "required."},
	{"cert_policy", "More checks: the words are added to those of each pkcs11_module block."},
	{"eku", "Purposes that allow no more than the file's."},
	{"required_policies", "Policies that allow no more than the file's."},
	{"required_policies_match", "As for required_policies."},
	{"revocation", "hard."},
}

// Service is the table of a block service. Its keys are those of other blocks, without their
// defaults: what is not written there is as in the rest of the file. The C module knew no such
// block.
var Service = func() Table {
	t := Table{
		Block: "service",
		Doc:   "What is stricter than the rest of the file for the PAM services of these names.",
	}
	for _, row := range serviceKeys {
		k := Global.Find(row.name)
		if k == nil {
			k = Module.Find(row.name)
		}

		// A key that the block does not have stays as the file says: there is no default here.
		own := *k
		own.Default = ""
		own.Doc = row.doc
		own.Status = New
		own.Unread = false
		own.looser = nil
		t.Keys = append(t.Keys, own)
	}
	return t
}()
