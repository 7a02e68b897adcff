//go:build cgo

#define _GNU_SOURCE
#include "relay.h"
#include "spawn.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

int64_t relay_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- octets -------------------------------------------------------------------------------------- */

/* transfer moves n octets by the deadline. */
static int transfer(int fd, void *data, size_t n, int sending, int64_t deadline)
{
	char *p = data;
	while (n > 0) {
		int64_t left = deadline - relay_now();
		struct pollfd ready = {fd, sending ? POLLOUT : POLLIN, 0};
		if (left <= 0)
			return -1;
		int polled = poll(&ready, 1, left > 3600000 ? 3600000 : (int)left);
		if (polled < 0 && errno != EINTR)
			return -1;
		if (polled <= 0)
			continue;
		ssize_t k = sending ? send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT) : recv(fd, p, n, MSG_DONTWAIT);
		if (k < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (k <= 0)
			return -1;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

static uint32_t read32(const unsigned char *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void write32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> 8 * i);
}

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int send_frame(struct relay *r, int verb, const void *payload, uint32_t n)
{
	unsigned char header[RELAY_HEADER] = {RELAY_VERSION, (unsigned char)verb};
	int64_t deadline = sooner(r->total_until, relay_now() + relay_silence);
	write32(header + 4, n);
	if (transfer(r->fd, header, sizeof header, 1, deadline))
		return -1;
	return n ? transfer(r->fd, (void *)payload, n, 1, deadline) : 0;
}

/* receive_frame puts a payload into r->buffer, ended by a NUL that is not part of it. */
static int receive_frame(struct relay *r, int *verb, uint32_t *n)
{
	unsigned char header[RELAY_HEADER];
	int64_t patience = r->wait_until > r->silence_until ? r->wait_until : r->silence_until;
	int64_t deadline = sooner(r->total_until, patience);
	r->problem = "the worker ended, or its deadline passed";
	if (transfer(r->fd, header, sizeof header, 0, deadline))
		return -1;
	r->problem = "the worker sent a malformed frame";
	*verb = header[1];
	*n = read32(header + 4);
	if (header[0] != RELAY_VERSION || header[2] || header[3] || *n > RELAY_MAX_PAYLOAD)
		return -1;
	r->problem = "the worker ended in the middle of a frame";
	if (*n && transfer(r->fd, r->buffer, *n, 0, deadline))
		return -1;
	r->buffer[*n] = 0;
	r->silence_until = relay_now() + relay_silence;
	return 0;
}

/* ---- the request --------------------------------------------------------------------------------- */

static int add_field(struct relay *r, uint32_t *n, int tag, const char *value, size_t length)
{
	if (length > 4096 || *n + 3 + length > RELAY_MAX_PAYLOAD)
		return -1;
	unsigned char *p = r->buffer + *n;
	p[0] = (unsigned char)tag;
	p[1] = (unsigned char)length;
	p[2] = (unsigned char)(length >> 8);
	memcpy(p + 3, value, length);
	*n += 3 + (uint32_t)length;
	return 0;
}

static int add_item(struct relay *r, uint32_t *n, int tag, int item)
{
	const void *value = NULL;
	if (r->pam->get_item(r->pamh, item, &value) != PAM_SUCCESS || !value)
		return 0;
	return add_field(r, n, tag, value, strlen(value));
}

/* plain tells whether a value of the locale variables is one: they reach code that reads files by them. */
static int plain(const char *value)
{
	size_t n = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@:-");
	return n > 0 && n <= 64 && value[n] == 0;
}

/* The locale only chooses words, so the host's own environment may name it. What a decision rests on comes
 * from the PAM environment, or from an environment that no caller of a set-uid program has filled. */
static int add_environment(struct relay *r, uint32_t *n)
{
	static const char *const names[] = {"LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG", "DISPLAY", "XDG_SEAT", "PKCS11_LOGIN_TOKEN_NAME"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int is_locale = i < 4;
		char entry[1024];
		const char *value = r->pam->getenv(r->pamh, names[i]);
		if (!value)
			value = is_locale ? getenv(names[i]) : secure_getenv(names[i]);
		if (!value || !*value || (is_locale && !plain(value)))
			continue;
		size_t name = strlen(names[i]), length = strlen(value);
		if (name + 1 + length > sizeof entry)
			return -1;
		memcpy(entry, names[i], name);
		entry[name] = '=';
		memcpy(entry + name + 1, value, length);
		if (add_field(r, n, FIELD_ENVIRONMENT, entry, name + 1 + length))
			return -1;
	}
	return 0;
}

static int is_blank(const char *s)
{
	return s[strspn(s, " \t")] == 0;
}

static int add_identity(struct relay *r, uint32_t *n, int flags)
{
	const void *user = NULL;
	unsigned char word[4];
	if (r->pam->get_item(r->pamh, PAM_USER, &user) != PAM_SUCCESS)
		user = NULL;
	r->user_given = user && !is_blank(user);
	if (user && add_field(r, n, FIELD_USER, user, strlen(user)))
		return -1;
	unsigned char for_another = getuid() == 0 && user && strcmp(user, "root") != 0;
	write32(word, (uint32_t)flags);
	return add_field(r, n, FIELD_FLAGS, (char *)word, sizeof word) ||
	       add_field(r, n, FIELD_ROOT_FOR_ANOTHER, (char *)&for_another, 1);
}

static int send_request(struct relay *r, int flags, int argc, const char **argv)
{
	uint32_t n = 0;
	r->problem = "the request is too long for the worker";
	if (add_identity(r, &n, flags) || add_item(r, &n, FIELD_SERVICE, PAM_SERVICE) || add_item(r, &n, FIELD_RHOST, PAM_RHOST) ||
	    add_item(r, &n, FIELD_TTY, PAM_TTY) || add_item(r, &n, FIELD_RUSER, PAM_RUSER) || add_environment(r, &n))
		return -1;
	for (int i = 0; i < argc; i++)
		if (add_field(r, &n, FIELD_ARGUMENT, argv[i], strlen(argv[i])))
			return -1;
	r->problem = "the worker does not take the request";
	return send_frame(r, r->verb, r->buffer, n);
}

/* ---- the conversation ---------------------------------------------------------------------------- */

/* converse asks the application one thing. The answer is the caller's to wipe and free. */
static int converse(struct relay *r, int style, const char *text, char **answer)
{
	const void *item = NULL;
	struct pam_response *response = NULL;
	*answer = NULL;
	if (r->pam->get_item(r->pamh, PAM_CONV, &item) != PAM_SUCCESS || !item)
		return -1;
	const struct pam_conv *conversation = item;
	if (!conversation->conv)
		return -1;
	struct pam_message message = {style, text};
	const struct pam_message *messages[1] = {&message};
	int code = conversation->conv(1, messages, &response, conversation->appdata_ptr);
	if (code != PAM_SUCCESS || !response)
		return -1; /* what response points to after an error is not defined */
	*answer = response->resp;
	free(response);
	return 0;
}

static void wipe_and_free(char *s)
{
	if (!s)
		return;
	explicit_bzero(s, strlen(s));
	free(s);
}

/* spoke_out_of_turn: a worker is silent while its question is open. That it has ended meanwhile is seen here, as soon
 * as the application returns; what was typed goes nowhere. */
static int spoke_out_of_turn(struct relay *r)
{
	char octet;
	ssize_t n = recv(r->fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	r->problem = n > 0 ? "the worker spoke while its prompt was open" : "the worker ended while its prompt was open";
	return 1;
}

static int send_answer(struct relay *r, int status, const char *answer)
{
	size_t length = answer ? strlen(answer) : 0;
	if (length > RELAY_MAX_ANSWER) {
		status = ANSWER_FAILED;
		length = 0;
	}
	unsigned char payload[1 + RELAY_MAX_ANSWER];
	payload[0] = (unsigned char)status;
	if (length)
		memcpy(payload + 1, answer, length);
	r->problem = "the worker does not take the answer";
	int failed = send_frame(r, VERB_ANSWER, payload, 1 + (uint32_t)length);
	explicit_bzero(payload, sizeof payload);
	return failed;
}

/* take_over hands over what an earlier module of the stack left; nobody is asked. */
static int take_over(struct relay *r, int item)
{
	const void *value = NULL;
	if (r->pam->get_item(r->pamh, item, &value) != PAM_SUCCESS || !value)
		return send_answer(r, ANSWER_NONE, NULL);
	return send_answer(r, ANSWER_GIVEN, value);
}

/* leave_out: the user's time, and the application's, is not the worker's. */
static void leave_out(struct relay *r, int64_t since)
{
	int64_t spent = relay_now() - since;
	r->total_until += spent;
	r->silence_until += spent;
	if (r->wait_until)
		r->wait_until += spent;
}

static int ask(struct relay *r, int style, const char *text)
{
	char *answer = NULL;
	int64_t before = relay_now();
	r->prompts++;
	int failed = converse(r, style, text, &answer);
	leave_out(r, before);
	if (spoke_out_of_turn(r)) {
		wipe_and_free(answer);
		return -1;
	}
	failed = send_answer(r, failed || !answer ? ANSWER_FAILED : ANSWER_GIVEN, answer);
	wipe_and_free(answer);
	return failed;
}

static int on_prompt(struct relay *r, uint32_t n)
{
	const char *text = (char *)r->buffer + 1;
	r->problem = "the worker sent a malformed prompt, or too many";
	if (n < 1 || n > RELAY_MAX_TEXT || strlen(text) != n - 1 || r->prompts >= RELAY_MAX_PROMPTS)
		return -1;
	switch (r->buffer[0]) {
	case KIND_ECHO_OFF:
		return ask(r, PAM_PROMPT_ECHO_OFF, text);
	case KIND_ECHO_ON:
		return ask(r, PAM_PROMPT_ECHO_ON, text);
	case KIND_TAKE_AUTHTOK:
		r->prompts++;
		return take_over(r, PAM_AUTHTOK);
	case KIND_TAKE_OLDAUTHTOK:
		r->prompts++;
		return take_over(r, PAM_OLDAUTHTOK);
	}
	return -1;
}

/* on_message shows a text. That it could not be shown changes nothing. */
static int on_message(struct relay *r, uint32_t n)
{
	const char *text = (char *)r->buffer + 1;
	char *answer = NULL;
	r->problem = "the worker sent a malformed message, or too many";
	if (n < 1 || n > RELAY_MAX_TEXT || strlen(text) != n - 1 || r->messages++ >= RELAY_MAX_MESSAGES)
		return -1;
	if (r->buffer[0] != KIND_ERROR && r->buffer[0] != KIND_INFO)
		return -1;
	int64_t before = relay_now();
	converse(r, r->buffer[0] == KIND_ERROR ? PAM_ERROR_MSG : PAM_TEXT_INFO, text, &answer);
	wipe_and_free(answer);
	leave_out(r, before);
	return 0;
}

/* on_wait: other frames may come during a wait and do not end it. */
static int on_wait(struct relay *r, uint32_t n)
{
	r->problem = "the worker announced a malformed wait, too long a one, or too many";
	if (n != 4 || r->messages++ >= RELAY_MAX_MESSAGES)
		return -1;
	uint32_t ms = read32(r->buffer);
	if (ms > relay_longest_wait)
		return -1;
	r->wait_until = ms ? relay_now() + ms : 0;
	return 0;
}

/* ---- the verdict --------------------------------------------------------------------------------- */

enum { MAX_VARIABLES = 3 }; /* PKCS11_LOGIN_* */

struct verdict {
	int code; /* -1 until it is there */
	char *user, *authtok;
	char *variables[MAX_VARIABLES]; /* NAME=value, or NULL */
};

/* may_answer knows every code that this module returns, and when. Having asked, it has an opinion. */
static int may_answer(const struct relay *r, int code)
{
	if (code == PAM_IGNORE)
		return r->prompts == 0;
	if (r->verb == VERB_CHANGE)
		return code == PAM_SUCCESS || code == PAM_AUTHTOK_ERR;
	return code == PAM_SUCCESS || code == PAM_AUTH_ERR || code == PAM_CRED_INSUFFICIENT || code == PAM_AUTHINFO_UNAVAIL;
}

/* known_variable returns which of the module's variables an entry sets, or -1. */
static int known_variable(const char *entry)
{
	static const char *const names[MAX_VARIABLES] = {
		"PKCS11_LOGIN_TOKEN_NAME=", "PKCS11_LOGIN_CERT_ISSUER=", "PKCS11_LOGIN_CERT_SERIAL="};
	for (int i = 0; i < MAX_VARIABLES; i++)
		if (!strncmp(entry, names[i], strlen(names[i])))
			return i;
	return -1;
}

static char *copy(const unsigned char *value, size_t n)
{
	char *s = memchr(value, 0, n) ? NULL : malloc(n + 1);
	if (s) {
		memcpy(s, value, n);
		s[n] = 0;
	}
	return s;
}

static int plain_name(const char *user)
{
	size_t n = strlen(user);
	if (n == 0 || n > RELAY_MAX_USER || is_blank(user))
		return 0;
	for (const char *p = user; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return 0;
	return 1;
}

static int take_variable(struct verdict *v, const unsigned char *value, size_t n)
{
	char *entry = n > 4096 ? NULL : copy(value, n);
	int which = entry ? known_variable(entry) : -1;
	if (which >= 0 && !v->variables[which]) {
		v->variables[which] = entry;
		return 0;
	}
	free(entry);
	return -1;
}

static int take_field(struct verdict *v, int tag, const unsigned char *value, size_t n)
{
	switch (tag) {
	case FIELD_CODE:
		if (n != 1 || v->code >= 0)
			return -1;
		v->code = value[0];
		return 0;
	case FIELD_FOUND_USER:
		if (v->user || !(v->user = copy(value, n)))
			return -1;
		return plain_name(v->user) ? 0 : -1;
	case FIELD_VARIABLE:
		return take_variable(v, value, n);
	case FIELD_AUTHTOK:
		if (v->authtok || n == 0 || n > RELAY_MAX_ANSWER || !(v->authtok = copy(value, n)))
			return -1;
		return 0;
	}
	return -1;
}

static int read_verdict(struct relay *r, uint32_t n, struct verdict *v)
{
	const unsigned char *p = r->buffer, *end = p + n;
	while (p < end) {
		if (end - p < 3)
			return -1;
		size_t length = p[1] | (size_t)p[2] << 8;
		if ((size_t)(end - p) - 3 < length || take_field(v, p[0], p + 3, length))
			return -1;
		p += 3 + length;
	}
	return v->code >= 0 && may_answer(r, v->code) ? 0 : -1;
}

/* apply lets a success take effect. The name that was given stays; the worker must mean the same one. */
static int apply(struct relay *r, const struct verdict *v)
{
	const void *given = NULL;
	if (r->verb == VERB_CHANGE)
		return 0;
	if (!v->user)
		return -1;
	if (r->user_given) {
		if (r->pam->get_item(r->pamh, PAM_USER, &given) != PAM_SUCCESS || !given || strcmp(given, v->user) != 0)
			return -1;
	} else if (r->pam->set_item(r->pamh, PAM_USER, v->user) != PAM_SUCCESS) {
		return -1;
	}
	for (int i = 0; i < MAX_VARIABLES; i++)
		if (v->variables[i] && r->pam->putenv(r->pamh, v->variables[i]) != PAM_SUCCESS)
			r->pam->syslog(r->pamh, LOG_WARNING, "a PKCS11_LOGIN variable could not be set");
	if (v->authtok && r->pam->set_item(r->pamh, PAM_AUTHTOK, v->authtok) != PAM_SUCCESS)
		r->pam->syslog(r->pamh, LOG_WARNING, "the PIN could not be forwarded");
	return 0;
}

static int on_verdict(struct relay *r, uint32_t n, int *code)
{
	struct verdict v = {.code = -1};
	r->problem = "the worker sent a malformed verdict, or one it may not give";
	int failed = read_verdict(r, n, &v);
	if (!failed && v.code == PAM_SUCCESS) {
		r->problem = "the user of the verdict is not the one that was given";
		failed = apply(r, &v);
	}
	if (!failed)
		*code = v.code;
	wipe_and_free(v.authtok);
	free(v.user);
	for (int i = 0; i < MAX_VARIABLES; i++)
		free(v.variables[i]);
	return failed;
}

/* ---- the call ------------------------------------------------------------------------------------ */

int relay_serve(struct relay *r, int *code)
{
	for (;;) {
		int verb, failed = -1;
		uint32_t n;
		if (receive_frame(r, &verb, &n))
			return 0;
		r->problem = "the worker sent an unknown frame";
		switch (verb) {
		case VERB_PROMPT:
			failed = on_prompt(r, n);
			break;
		case VERB_MESSAGE:
			failed = on_message(r, n);
			break;
		case VERB_WAIT:
			failed = on_wait(r, n);
			break;
		case VERB_VERDICT:
			return on_verdict(r, n, code) == 0;
		}
		if (failed)
			return 0;
	}
}

/* glibc runs what is registered here also when a longjmp, pthread_exit or cancellation out of the conversation
 * leaves our frame: without it the worker would wait at its prompt for as long as the host lives. Another C library
 * does not have it. */
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *, void (*)(void *), void *) __attribute__((weak));
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *, int) __attribute__((weak));

/* abandon may run in a signal handler: system calls only, so the memory is wiped and stays. */
static void abandon(void *argument)
{
	struct relay *r = argument;
	if (r->fd >= 0)
		end_worker(r->fd, r->pidfd, 0);
	explicit_bzero(r, sizeof *r);
}

static int serve(struct relay *r, int flags, int argc, const char **argv, int fault)
{
	int code = fault;
	r->fd = spawn_worker(&r->pidfd, &r->problem);
	if (r->fd < 0)
		return fault;
	r->total_until = relay_now() + relay_total;
	r->silence_until = relay_now() + relay_silence;
	int answered = !send_request(r, flags, argc, argv) && relay_serve(r, &code);
	if (answered)
		r->problem = NULL;
	/* After its verdict the worker ends by itself and holds no card: the user need not wait for its memory to be freed. */
	r->status = end_worker(r->fd, r->pidfd, answered ? 0 : 1000);
	r->fd = -1;
	return answered ? code : fault;
}

/* PAM_SILENT does not keep the reason of a failure back: sudo sets it always. Whether the configuration says quiet is
 * known to the worker alone. */
void relay_tell_fault(struct relay *r, int argc, const char **argv)
{
	char *answer = NULL;
	for (int i = 0; i < argc; i++)
		if (!strcmp(argv[i], "quiet"))
			return;
	converse(r, PAM_ERROR_MSG, RELAY_FAULT_TEXT, &answer);
	wipe_and_free(answer);
}

/* report writes why there is no verdict, and how the worker ended where that is known. */
static void report(const struct relay *r)
{
	char how[128] = "";
	if (r->status >= 0 && WIFSIGNALED(r->status))
		snprintf(how, sizeof how, " (it was killed by signal %d)", WTERMSIG(r->status));
	else if (r->status >= 0 && WEXITSTATUS(r->status) == 127)
		snprintf(how, sizeof how, " (it left with status 127, as when a library, or a function that one of them calls, is missing)");
	else if (r->status >= 0)
		snprintf(how, sizeof how, " (it left with status %d)", WEXITSTATUS(r->status));
	r->pam->syslog(r->pamh, LOG_ERR, "no answer from the worker: %s%s", r->problem, how);
}

int relay_run(pam_handle_t *pamh, int verb, int flags, int argc, const char **argv, int fault)
{
	struct _pthread_cleanup_buffer registered;
	const struct libpam *pam = libpam();
	struct relay *r = pam ? calloc(1, sizeof *r) : NULL;
	if (!r) {
		syslog(LOG_AUTHPRIV | LOG_ERR, "pam_pkcs11: %s", pam ? "no memory" : "libpam.so.0 is not loaded");
		return fault;
	}
	r->pam = pam;
	r->pamh = pamh;
	r->verb = verb;
	r->fd = r->pidfd = r->status = -1;
	if (_pthread_cleanup_push)
		_pthread_cleanup_push(&registered, abandon, r);
	int code = serve(r, flags, argc, argv, fault);
	if (r->problem) {
		report(r);
		relay_tell_fault(r, argc, argv);
	}
	if (_pthread_cleanup_push)
		_pthread_cleanup_pop(&registered, 0);
	explicit_bzero(r, sizeof *r);
	free(r);
	return code;
}
