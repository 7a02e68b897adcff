package doctor

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// localUser is an account of the machine's own files (passwd(5), shadow(5)).
type localUser struct {
	name, home, shell string
	uid, gid          int
	shadow            shadowEntry
	hasShadow         bool // the line was there, and could be read
}

// shadowEntry is what shadow(5) says of a password; days since 1970, -1 where nothing is said.
type shadowEntry struct {
	password                               string
	changed, longest, inactive, accountEnd int
}

// localUsers reads the files; readable is false where shadow could not be read.
func (m *Machine) localUsers() (users []localUser, readable bool) {
	passwd, err := m.text("/etc/passwd")
	if err != nil {
		return nil, false
	}

	shadow, err := m.text("/etc/shadow")
	entries := readShadow(shadow)

	for line := range strings.Lines(passwd) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		// Entries of NIS begin with a sign, and are no accounts of this machine (passwd(5)).
		if len(fields) != 7 || fields[0] == "" || strings.ContainsAny(fields[0][:1], "+-") {
			continue
		}

		uid, errUID := strconv.Atoi(fields[2])
		gid, errGID := strconv.Atoi(fields[3])
		if errUID != nil || errGID != nil {
			continue
		}

		u := localUser{
			name:  fields[0],
			uid:   uid,
			gid:   gid,
			home:  fields[5],
			shell: fields[6],
		}

		u.shadow, u.hasShadow = entries[u.name]

		// Else the password stands in passwd itself, as pam_unix takes it.
		if fields[1] != "x" {
			u.hasShadow = true
			u.shadow = shadowEntry{
				password:   fields[1],
				changed:    -1,
				longest:    -1,
				inactive:   -1,
				accountEnd: -1,
			}
		}
		users = append(users, u)
	}
	return users, err == nil
}

// readShadow reads shadow(5).
func readShadow(text string) map[string]shadowEntry {
	entries := map[string]shadowEntry{}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(fields) < 2 {
			continue
		}
		// An empty field is not set, and so is one that cannot be read.
		number := func(i int) int {
			if i >= len(fields) {
				return -1
			}
			n, err := strconv.Atoi(fields[i])
			if err != nil || n < 0 {
				return -1
			}
			return n
		}

		entries[fields[0]] = shadowEntry{
			password:   fields[1],
			changed:    number(2),
			longest:    number(4),
			inactive:   number(6),
			accountEnd: number(7),
		}
	}
	return entries
}

// hasPassword reports whether a password lets the account in: one is set, it is not locked, and
// neither it nor the account has ended. One that has to be changed at the login does.
func (u localUser) hasPassword(now time.Time) bool {
	p := u.shadow.password
	locked := strings.HasPrefix(p, "!") || strings.HasPrefix(p, "*")
	if !u.hasShadow || locked || len(p) < 2 {
		return false
	}

	// Dates are days since 1970-01-01 (shadow(5)).
	today := int(now.Unix() / (24 * 60 * 60))
	if u.shadow.accountEnd >= 0 && today >= u.shadow.accountEnd {
		return false
	}

	// One that is too old is changed at the login, until the days of inactive are over as well.
	s := u.shadow
	noEnd := s.inactive < 0 || s.longest < 0 || s.changed <= 0
	return noEnd || today <= s.changed+s.longest+s.inactive
}

// hasShell reports whether the account may log in.
func (u localUser) hasShell() bool {
	return !strings.HasSuffix(u.shell, "/nologin") && !strings.HasSuffix(u.shell, "/false")
}

// members are the local accounts of a group of the machine's own files (group(5)), by its list and
// by their own group; there is false where there is no such group.
func (m *Machine) members(group string, users []localUser) (members []localUser, there bool) {
	text, err := m.text("/etc/group")
	if err != nil {
		return nil, false
	}

	for line := range strings.Lines(text) {
		fields := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(fields) != 4 || fields[0] != group {
			continue
		}

		there = true

		gid, _ := strconv.Atoi(fields[2])
		names := strings.Split(fields[3], ",")
		for _, u := range users {
			if u.gid == gid || slices.Contains(names, u.name) {
				members = append(members, u)
			}
		}
	}
	return members, there
}

// joinNames are the names of accounts, at most eight.
func joinNames(users []localUser) string {
	const most = 8
	var names []string
	for i, u := range users {
		if i == most {
			names = append(names, "...")
			break
		}
		names = append(names, u.name)
	}
	return strings.Join(names, ", ")
}

// Member is a local account of the break-glass group whose password works.
type Member struct {
	Name string
	UID  int
}

// BreakGlassMembers are the group that gets in without a card, and its local members whose
// passwords work, root last: services may shut root out.
func (m *Machine) BreakGlassMembers() (group string, members []Member) {
	group = m.breakGlass()
	users, _ := m.localUsers()
	all, _ := m.members(group, users)

	now := m.now()
	for _, u := range all {
		if u.hasPassword(now) && u.hasShell() {
			members = append(members, Member{Name: u.name, UID: u.uid})
		}
	}

	// Of others than root the order stays that of the file.
	slices.SortStableFunc(members, func(a, b Member) int { return min(b.UID, 1) - min(a.UID, 1) })
	return group, members
}
