//go:build cgo

package pamlogin

/*
#cgo LDFLAGS: -ldl
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <security/pam_appl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Longer answers than PAM_MAX_RESP_SIZE are refused by modules.
#define MAX_ANSWER 511
#define MAX_TEXT 4000

// ready reports whether a transfer that did not go through is to be tried again. The socket may not
// block: its other holder is a Go program.
static int ready(int fd, short events)
{
	if (errno == EINTR)
		return 1;
	struct pollfd p = {.fd = fd, .events = events};
	return (errno == EAGAIN || errno == EWOULDBLOCK) && (poll(&p, 1, -1) > 0 || errno == EINTR);
}

static int put_all(int fd, const void *data, size_t n)
{
	const char *p = data;
	while (n > 0) {
		ssize_t written = write(fd, p, n);
		if (written < 0 && ready(fd, POLLOUT))
			continue;

		if (written <= 0)
			return -1;
		p += written;
		n -= (size_t)written;
	}
	return 0;
}

static int get_all(int fd, void *data, size_t n)
{
	char *p = data;
	while (n > 0) {
		ssize_t got = read(fd, p, n);
		if (got < 0 && ready(fd, POLLIN))
			continue;
		if (got <= 0)
			return -1;
		p += got;
		n -= (size_t)got;
	}
	return 0;
}

static int put_frame(int fd, char kind, const char *text)
{
	size_t n = text ? strlen(text) : 0;
	if (n > MAX_TEXT)
		n = MAX_TEXT;
	uint32_t length = htonl((uint32_t)n);
	if (put_all(fd, &kind, 1) || put_all(fd, &length, sizeof length))
		return -1;
	return put_all(fd, text, n);
}

// ask puts one question. The answer is a string of malloc's, as a PAM conversation gives it.
static int ask(int fd, char kind, const char *text, char **answer)
{
	uint32_t length;
	if (put_frame(fd, kind, text) || get_all(fd, &length, sizeof length))
		return -1;
	length = ntohl(length);
	if (length > MAX_ANSWER || !(*answer = calloc(1, MAX_ANSWER + 1)))
		return -1;
	if (get_all(fd, *answer, length) == 0)
		return 0;
	explicit_bzero(*answer, MAX_ANSWER + 1);
	free(*answer);
	*answer = NULL;
	return -1;
}

static void forget(struct pam_response *all, int n)
{
	for (int i = 0; i < n; i++) {
		if (all[i].resp)
			explicit_bzero(all[i].resp, MAX_ANSWER + 1);
		free(all[i].resp);
	}
	free(all);
}

static int converse(int n, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	int fd = *(int *)data;
	if (n <= 0 || n > PAM_MAX_NUM_MSG)
		return PAM_CONV_ERR;
	struct pam_response *all = calloc((size_t)n, sizeof *all);
	if (!all)
		return PAM_BUF_ERR;

	for (int i = 0; i < n; i++) {
		const char *text = messages[i]->msg;
		int failed;
		switch (messages[i]->msg_style) {
		case PAM_PROMPT_ECHO_OFF:
			failed = ask(fd, 'S', text, &all[i].resp);
			break;
		case PAM_PROMPT_ECHO_ON:
			failed = ask(fd, 'V', text, &all[i].resp);
			break;
		case PAM_TEXT_INFO:
			failed = put_frame(fd, 'I', text);
			break;
		case PAM_ERROR_MSG:
			failed = put_frame(fd, 'E', text);
			break;
		default:
			failed = 1;
		}
		if (failed) {
			forget(all, n);
			return PAM_CONV_ERR;
		}
	}
	*responses = all;
	return PAM_SUCCESS;
}

// The functions of libpam, which this program is not linked with: undo works on a machine without.
struct libpam {
	int (*start)(const char *, const char *, const struct pam_conv *, pam_handle_t **);
	int (*authenticate)(pam_handle_t *, int);
	int (*acct_mgmt)(pam_handle_t *, int);
	int (*get_item)(const pam_handle_t *, int, const void **);
	int (*end)(pam_handle_t *, int);
};

static int load(struct libpam *pam)
{
	void *library = dlopen("libpam.so.0", RTLD_NOW | RTLD_GLOBAL);
	if (!library)
		return -1;
	*(void **)&pam->start = dlsym(library, "pam_start");
	*(void **)&pam->authenticate = dlsym(library, "pam_authenticate");
	*(void **)&pam->acct_mgmt = dlsym(library, "pam_acct_mgmt");
	*(void **)&pam->get_item = dlsym(library, "pam_get_item");
	*(void **)&pam->end = dlsym(library, "pam_end");
	return pam->start && pam->authenticate && pam->acct_mgmt && pam->get_item && pam->end ? 0 : -1;
}

static int run_login(int fd, const char *service, const char *user, int whole)
{
	struct libpam pam;
	if (load(&pam)) {
		return put_frame(fd, 'F', "libpam.so.0 cannot be loaded") ? 1 : 0;
	}
	struct pam_conv conversation = {converse, &fd};
	pam_handle_t *handle = NULL;
	int code = pam.start(service, user, &conversation, &handle);
	if (code != PAM_SUCCESS || !handle) {
		return put_frame(fd, 'F', "libpam does not start for this service") ? 1 : 0;
	}

	int auth = -1, account = -1;
	if (whole)
		code = auth = pam.authenticate(handle, 0);
	if (code == PAM_SUCCESS)
		code = account = pam.acct_mgmt(handle, 0);

	const void *name = NULL;
	char text[MAX_TEXT];
	if (pam.get_item(handle, PAM_USER, &name) != PAM_SUCCESS || !name)
		name = "";
	snprintf(text, sizeof text, "%d %d %s", auth, account, (const char *)name);
	pam.end(handle, code);
	return put_frame(fd, 'R', text) ? 1 : 0;
}
*/
import "C"

import (
	"runtime"
	"syscall"
	"unsafe"
)

// Child is the child's part: one login over the socket fd. It returns the status to end with.
func Child(fd int, service, user string, phase Phase) int {
	// Modules keep state by thread, such as the credentials of the file system (setfsuid(2)).
	runtime.LockOSThread()
	syscall.CloseOnExec(fd) // helpers of the modules must not read the answers

	name, who := C.CString(service), C.CString(user)
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(who))

	whole := C.int(0)
	if phase == Whole {
		whole = 1
	}
	return int(C.run_login(C.int(fd), name, who, whole))
}
