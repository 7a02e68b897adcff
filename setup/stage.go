package setup

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"pam_pkcs11/setup/distro"
	"pam_pkcs11/setup/internal/pamlogin"
)

// The first arguments of the children: the program hands such calls to Child.
const (
	stageWord = "setup-stage"
	loginWord = "setup-login"
)

// socketFD is the children's end of the socket.
const socketFD = 3

// workDir is where directories for a while are made: that of TMPDIR may be somebody else's, who
// could exchange the copies and the configuration that root reads there.
const workDir = "/run"

// reportTime bounds the rehearsal without its logins: three runs of tools, the mapping and the
// guard.
const reportTime = 10 * time.Minute

// loginTime bounds a login of the rehearsal.
const loginTime = 3 * time.Minute

// maxMessage bounds a message between the processes, in bytes.
const maxMessage = 64 << 20

// order is what the stage is asked to do after it has reported.
type order struct {
	Service string
	User    string
	Phase   pamlogin.Phase
	// a made one that the user has for this login, in the namespace alone
	Password string `json:",omitempty"`
}

// Child is what a child of Run does: args as in os.Args. ok is false where the program was not
// called to be one.
func Child(args []string) (code int, ok bool) {
	switch {
	case len(args) == 3 && args[1] == stageWord:
		return runStage(args[2]), true
	case len(args) == 5 && args[1] == loginWord:
		return pamlogin.Child(socketFD, args[2], args[3], pamlogin.Phase(args[4])), true
	}
	return 0, false
}

// runStage is the process in the mount namespace: it carries the plan out on copies, reports what
// has become of it, and then runs logins until its socket is closed.
func runStage(dir string) int {
	file := os.NewFile(socketFD, "socket")
	conn, err := net.FileConn(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	// Tools that it runs must not hold the socket: its end is what ends this process.
	unix.CloseOnExec(socketFD)

	ctx := context.Background()
	var plan Plan
	err = receive(conn, &plan)
	if err == nil {
		err = layCopies(ctx, dir, &plan)
	}

	var report Report
	if err == nil {
		err = rehearse(ctx, &plan, &report)
	}
	if err != nil {
		report.Failed = err.Error()
	}

	if err := send(conn, &report); err != nil || report.Failed != "" {
		return 1
	}

	for {
		var o order
		if err := receive(conn, &o); err != nil {
			return 0 // the parent has gone, and with it the wish
		}
		if err := loginWithPassword(ctx, dir, file, o); err != nil {
			_ = pamlogin.Fail(conn, err)
		}
	}
}

// loginIn has a login run by a child of its own, whose answers go to the socket.
func loginIn(ctx context.Context, socket *os.File, o order) error {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()

	// Of this program's environment nothing reaches a module of PAM.
	child := exec.CommandContext(ctx, "/proc/self/exe", loginWord, o.Service, o.User,
		string(o.Phase))
	child.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	child.Dir = "/"
	child.ExtraFiles = []*os.File{socket}
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	if err := child.Run(); err != nil {
		return fmt.Errorf("the login was ended: %w", err)
	}
	return nil
}

// covered are the directories over which the rehearsal lays copies: a copy of all of /etc where
// there is no directory of ours in it yet, since a mount needs something to lie over, and where
// more of it is changed than the PAM stacks.
func (p *Plan) covered() []string {
	dirs := []string{"/var/lib/pam", "/var/cache/debconf", authselectState, alternativesState}
	_, err := os.Stat(confDir)
	ownFiles := p.Family == FamilyDebian || p.Family == FamilyLines
	if err == nil && ownFiles && !p.GDM {
		return append(dirs, pamDir, confDir)
	}
	return append(dirs, "/etc")
}

// layCopies gives this process, which is alone in a mount namespace, copies of all that will be
// changed, in memory. dir is an empty directory for them.
func layCopies(ctx context.Context, dir string, plan *Plan) error {
	// Private: what is mounted from here on is seen by this process and its children alone.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("the mounts of this process cannot be made its own: %w", err)
	}

	options := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if err := unix.Mount("tmpfs", dir, "tmpfs", options, "mode=0755"); err != nil {
		return fmt.Errorf("no memory for copies can be mounted on %s: %w", dir, err)
	}

	for i, of := range plan.covered() {
		if _, err := os.Stat(of); errors.Is(err, os.ErrNotExist) {
			continue
		}

		copied := filepath.Join(dir, fmt.Sprint(i))
		if said, err := distro.Run(ctx, "/bin/cp", "-a", "--", of, copied); err != nil {
			return fmt.Errorf("%w: %s", err, said)
		}
		// A bind covers the original, which stays as it is below.
		if err := unix.Mount(copied, of, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("no copy can be laid over %s: %w", of, err)
		}
	}
	return nil
}

// stage is the parent's side of it.
type stage struct {
	conn   net.Conn
	child  *exec.Cmd
	dir    string
	Report Report
}

// startStage carries a plan out on copies, and returns with the report. The caller closes it.
func startStage(ctx context.Context, plan *Plan) (s *stage, err error) {
	s = &stage{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp(workDir, "pam-pkcs11-setup-"); err != nil {
		return s, err
	}
	if err := s.start(ctx); err != nil {
		return s, err
	}

	// The process lives longer than its report, and ctx with it.
	report, cancel := context.WithTimeout(ctx, reportTime)
	defer cancel()
	stop := context.AfterFunc(report, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	if err := send(s.conn, plan); err != nil {
		return s, err
	}
	if err := receive(s.conn, &s.Report); err != nil {
		return s, fmt.Errorf("the rehearsal ended without a word: %w",
			errors.Join(err, report.Err()))
	}
	if s.Report.Failed != "" {
		return s, errors.New(s.Report.Failed)
	}
	return s, nil
}

// start starts the process in its namespace.
func (s *stage) start(ctx context.Context) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}

	ours := os.NewFile(uintptr(pair[0]), "socket")
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()

	s.conn, err = net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return err
	}

	s.child = exec.CommandContext(ctx, "/proc/self/exe", stageWord, s.dir)
	s.child.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	s.child.Dir = "/"
	s.child.Stderr = os.Stderr
	s.child.ExtraFiles = []*os.File{theirs}

	// Setpgid: with its group the tools that it runs can be ended as well (see close).
	s.child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true}
	if err := s.child.Start(); err != nil {
		s.child = nil
		return fmt.Errorf("a mount namespace cannot be made here: %w", err)
	}
	return nil
}

// login runs one login in the namespace.
func (s *stage) login(ctx context.Context, o order, answer answerer) (*pamlogin.End, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()

	if err := send(s.conn, o); err != nil {
		return nil, err
	}
	return pamlogin.Follow(ctx, s.conn, answer)
}

// close ends the process, and with it its namespace and the copies. It may be called again.
func (s *stage) close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	if s.child != nil {
		// It ends by itself when the socket does, but for a tool that hangs.
		late := time.AfterFunc(10*time.Second, func() {
			_ = unix.Kill(-s.child.Process.Pid, unix.SIGKILL)
		})
		_ = s.child.Wait()
		late.Stop()
	}
	if s.dir != "" {
		_ = os.Remove(s.dir)
	}
	*s = stage{Report: s.Report}
}

// send writes a message: its length in 4 octets, and JSON.
func send(w io.Writer, message any) error {
	data, err := json.Marshal(message)
	if err != nil {
		return err
	}

	frame := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
	_, err = w.Write(append(frame, data...))
	return err
}

// receive reads a message.
func receive(r io.Reader, message any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}

	length := binary.BigEndian.Uint32(head[:])
	if length > maxMessage {
		return fmt.Errorf("a message of %d bytes", length)
	}

	data := make([]byte, length)
	if _, err := io.ReadFull(r, data); err != nil {
		return err
	}
	return json.Unmarshal(data, message)
}
