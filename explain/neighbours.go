package explain

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"pam_pkcs11/internal/pamstack"
)

// neighbours are the other modules of a stack, as far as what they would answer can be told without
// asking them.
type neighbours struct {
	root    string
	service string
	user    string
	uid     int // -1 where the account is not known
	groups  func(user string) []string
	tally   func(line pamstack.Line) (locked bool, why string)
	account func() (pamstack.Result, string)

	said map[pamstack.Place]string // why a line keeps the user out, by its place
}

// neighbours are those of the stack's lines, for the login's user.
func (r *run) neighbours() *neighbours {
	n := &neighbours{
		root:    r.options.Root,
		service: r.report.Service,
		user:    r.userName(),
		uid:     -1,
		groups:  systemGroups,
		said:    make(map[pamstack.Place]string),
	}

	if a, err := r.accounts().Lookup(n.user); err == nil && n.user != "" {
		n.uid = int(a.UID)
	}
	if r.options.Groups != nil {
		n.groups = r.options.Groups
	}

	n.tally = func(line pamstack.Line) (bool, string) {
		return lockedByFaillock(r.options.Root, n.user, n.uid == 0, line.Args, r.options.Now())
	}
	n.account = func() (pamstack.Result, string) {
		return shadowSays(r.options.Root, n.user, r.options.Now())
	}
	return n
}

// userName is the account of the login, as far as it is known.
func (r *run) userName() string {
	if r.report.User != "" {
		return r.report.User
	}
	for _, j := range r.told.judged {
		if j.Err == nil {
			return j.Mapped.User
		}
	}
	return ""
}

// answer says what each line answers; ours is the answer of our module.
func (n *neighbours) answer(ours pamstack.Result) func(pamstack.Line) pamstack.Result {
	return func(line pamstack.Line) pamstack.Result {
		if line.IsOurs() {
			return ours
		}

		result, why := n.result(line)
		// Kept beside the answer: afterwards the path of the stack says which reason counted.
		if why != "" {
			n.said[line.Place()] = why
		}
		return result
	}
}

// result is what a line answers, and why where that keeps the user out.
func (n *neighbours) result(line pamstack.Line) (pamstack.Result, string) {
	switch line.Name() {
	case "pam_permit.so":
		return pamstack.Success, ""
	case "pam_deny.so":
		if line.Kind == pamstack.Account {
			return pamstack.AcctExpired, ""
		}
		return pamstack.AuthErr, ""
	case "pam_rootok.so":
		// The user who logs in is not root yet.
		return pamstack.AuthErr, ""
	case "pam_nologin.so":
		return n.nologin(line)
	case "pam_succeed_if.so":
		return n.succeedIf(line)
	case "pam_faillock.so":
		return n.faillock(line)
	case "pam_unix.so":
		if line.Kind == pamstack.Account {
			return n.account()
		}
		// No password has been typed: what asks for one says no.
		return pamstack.AuthErr, ""
	}
	return unknownModule(line), ""
}

// unknownModule is the answer that lets the stack go on.
func unknownModule(line pamstack.Line) pamstack.Result {
	if passwordModules[line.Name()] && line.Kind == pamstack.Auth {
		return pamstack.AuthinfoUnavail
	}

	if line.Kind == pamstack.Account {
		return pamstack.Success
	}
	// A module that is ignored would end the login here: then its success is the way on.
	if a := line.Control.On(pamstack.Ignore); a == pamstack.ActBad || a == pamstack.ActDie {
		return pamstack.Success
	}
	return pamstack.Ignore
}

// nologin is pam_nologin(8).
func (n *neighbours) nologin(line pamstack.Line) (pamstack.Result, string) {
	files := []string{"/var/run/nologin", "/etc/nologin"}
	for _, arg := range line.Args {
		if file, ok := strings.CutPrefix(arg, "file="); ok {
			files = []string{file}
		}
	}

	for _, file := range files {
		// pam_nologin lets root in although the file is there.
		if _, err := os.Stat(filepath.Join(n.root, file)); err == nil && n.uid != 0 {
			return pamstack.AuthErr, file + " is there"
		}
	}
	return pamstack.Ignore, ""
}

// faillock is pam_faillock(8).
func (n *neighbours) faillock(line pamstack.Line) (pamstack.Result, string) {
	// authfail stands where the password was wrong already, and preauth before it is asked.
	if line.Kind == pamstack.Account || !slices.Contains(line.Args, "preauth") {
		if slices.Contains(line.Args, "authfail") {
			return pamstack.AuthErr, ""
		}
		return pamstack.Success, ""
	}

	if locked, why := n.tally(line); locked {
		return pamstack.AuthErr, why
	}
	return pamstack.Success, ""
}

// succeedIf is pam_succeed_if(8), for the conditions that profiles have; others hold.
func (n *neighbours) succeedIf(line pamstack.Line) (pamstack.Result, string) {
	args := slices.DeleteFunc(slices.Clone(line.Args), func(a string) bool {
		return slices.Contains([]string{"debug", "use_uid", "quiet", "quiet_fail", "quiet_success",
			"audit"}, a)
	})
	// Conditions are words in threes, and all of them must hold.
	for len(args) >= 3 {
		if !n.holds(args[0], args[1], args[2]) {
			return pamstack.AuthErr, fmt.Sprintf("the condition %q does not hold",
				strings.Join(args[:3], " "))
		}
		args = args[3:]
	}
	return pamstack.Success, ""
}

// holds reports whether a condition holds; one that is not known counts as held.
func (n *neighbours) holds(left, qualifier, right string) bool {
	values := map[string]string{
		"user":    n.user,
		"service": n.service,
		"uid":     strconv.Itoa(n.uid),
	}
	value := values[left]
	list := strings.Split(right, ":")

	switch qualifier {
	case "=":
		return value == right
	case "!=":
		return value != right
	case "in":
		return slices.Contains(list, value)
	case "notin":
		return !slices.Contains(list, value)
	case "ingroup":
		return n.inGroup(list)
	case "notingroup":
		return !n.inGroup(list)
	}

	// The other conditions compare numbers.
	have, err1 := strconv.Atoi(value)
	want, err2 := strconv.Atoi(right)
	if err1 != nil || err2 != nil {
		return true
	}

	switch qualifier {
	case "eq":
		return have == want
	case "ne":
		return have != want
	case "ge":
		return have >= want
	case "gt":
		return have > want
	case "le":
		return have <= want
	case "lt":
		return have < want
	}
	return true
}

// inGroup reports whether the user is in one of some groups.
func (n *neighbours) inGroup(list []string) bool {
	return slices.ContainsFunc(n.groups(n.user), func(g string) bool {
		return slices.Contains(list, g)
	})
}

// systemGroups are the groups of an account of this machine.
func systemGroups(name string) []string {
	account, err := user.Lookup(name)
	if err != nil {
		return nil
	}

	ids, err := account.GroupIds()
	if err != nil {
		return nil
	}

	var groups []string
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil {
			groups = append(groups, g.Name)
		}
	}
	return groups
}
