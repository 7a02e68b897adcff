#define _GNU_SOURCE
#include "relay.h"
#include "hostlog.h"
#include "spawn.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
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

/* ---- octets ---------------------------------------------------------------------------------- */

enum { CLOSED = -1, LATE = -2 }; /* of transfer */

/* await waits until fd can be read or written: CLOSED after an error, LATE at the deadline. */
static int await(int fd, short events, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline - relay_now();
		struct pollfd ready = {fd, events, 0};

		if (left <= 0)
			return LATE;

		/* In steps of an hour: poll takes an int, and a longer deadline would not fit. */
		int polled = poll(&ready, 1, left > 3600000 ? 3600000 : (int)left);
		if (polled < 0 && errno != EINTR)
			return CLOSED;
		if (polled > 0)
			return 0;
	}
}

/* receive_some reads up to n octets and closes every descriptor that comes with them, but for one
 * that it puts into *descriptor, where that is wanted. */
static ssize_t receive_some(int fd, void *data, size_t n, int *descriptor)
{
	struct iovec part = {data, n};
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof control.room,
	};

	/* The kernel closes the descriptors that nobody asks for. */
	if (!descriptor)
		return recv(fd, data, n, MSG_DONTWAIT);

	ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (!c || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return got;
	if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return got;

	if (*descriptor >= 0)
		close(*descriptor);
	memcpy(descriptor, CMSG_DATA(c), sizeof *descriptor);
	return got;
}

/* transfer moves n octets by the deadline. descriptor is for receive_some, NULL when sending. */
static int transfer(int fd, void *data, size_t n, int sending, int64_t deadline, int *descriptor)
{
	char *p = data;
	while (n > 0) {
		int failed = await(fd, sending ? POLLOUT : POLLIN, deadline);
		if (failed)
			return failed;

		ssize_t k = sending ? send(fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT) :
				      receive_some(fd, p, n, descriptor);
		if (k < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (k <= 0)
			return CLOSED;

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
	if (transfer(r->worker.fd, header, sizeof header, 1, deadline, NULL))
		return -1;
	return n ? transfer(r->worker.fd, (void *)payload, n, 1, deadline, NULL) : 0;
}

/* receive reads n octets of a frame, and notes why it could not. */
static int receive(
	struct relay *r, void *data, size_t n, int64_t deadline, const char *ended, int *descriptor)
{
	int failed = transfer(r->worker.fd, data, n, 0, deadline, descriptor);
	if (failed) {
		r->problem = failed == LATE ? "its deadline passed" : ended;
		r->fault = failed == LATE ? FAULT_DEADLINE : FAULT_ENDED;
	}
	return failed;
}

/* take_notes keeps the descriptor that came with a frame, which only the first may bring. */
static void take_notes(struct relay *r, int verb, int descriptor)
{
	if (descriptor < 0)
		return;
	if (verb == VERB_NOTES && r->frames == 1)
		r->notes = descriptor;
	else
		close(descriptor);
}

/* receive_frame puts a payload into r->buffer, ended by a NUL that is not part of it. */
static int receive_frame(struct relay *r, int *verb, uint32_t *n)
{
	unsigned char header[RELAY_HEADER];
	int descriptor = -1;
	int64_t patience = r->wait_until > r->silence_until ? r->wait_until : r->silence_until;
	int64_t deadline = sooner(r->total_until, patience);

	if (receive(r, header, sizeof header, deadline, "it ended", &descriptor)) {
		take_notes(r, 0, descriptor);
		return -1;
	}

	/* From here on a failure is the worker's, which has sent what no worker sends. */
	r->problem = "the worker sent a malformed frame";
	r->fault = FAULT_PROTOCOL;
	r->frames++;
	take_notes(r, header[1], descriptor);

	*verb = header[1];
	*n = read32(header + 4);

	/* The length is the worker's: it is compared with the buffer before anything is read into
	 * it. */
	if (header[0] != RELAY_VERSION || header[2] || header[3] || *n > RELAY_MAX_PAYLOAD)
		return -1;
	if (*n && receive(r, r->buffer, *n, deadline, "it ended in the middle of a frame", NULL))
		return -1;

	r->buffer[*n] = 0;
	r->silence_until = relay_now() + relay_silence;
	return 0;
}

/* ---- the request ----------------------------------------------------------------------------- */

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

/* plain reports whether a value of the locale variables is one: they reach code that reads files by
 * them. */
static int plain(const char *value)
{
	size_t n = strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@:-");
	return n > 0 && n <= 64 && value[n] == 0;
}

/* The locale only chooses words, so the host's own environment may name it. What a decision rests
 * on comes from the PAM environment, or from an environment that no caller of a set-uid program has
 * filled. */
static int add_environment(struct relay *r, uint32_t *n)
{
	static const char *const names[] = {
		"LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG", "DISPLAY", "XDG_SEAT", "PKCS11_LOGIN_TOKEN_NAME"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int is_locale = i < 4;
		char entry[1024];
		const char *value = r->pam->getenv(r->pamh, names[i]);

		/* secure_getenv gives nothing in a set-uid program, whose caller has filled the
		 * environment. */
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

	/* root does not know the PIN of another user: the worker has nothing to change then. */
	unsigned char for_another = getuid() == 0 && user && strcmp(user, "root") != 0;
	unsigned char can = CAN_CONFIRM | CAN_TAKE_NOTES | CAN_REQUIRE;

	write32(word, (uint32_t)flags);
	return add_field(r, n, FIELD_FLAGS, (char *)word, sizeof word) ||
	       add_field(r, n, FIELD_ROOT_FOR_ANOTHER, (char *)&for_another, 1) ||
	       add_field(r, n, FIELD_RELAY_CAN, (char *)&can, 1);
}

static int send_request(struct relay *r, int flags, int argc, const char **argv)
{
	uint32_t n = 0;
	r->problem = "the request is too long for the worker";
	if (add_identity(r, &n, flags))
		return -1;
	if (add_item(r, &n, FIELD_SERVICE, PAM_SERVICE) || add_item(r, &n, FIELD_RHOST, PAM_RHOST))
		return -1;
	if (add_item(r, &n, FIELD_TTY, PAM_TTY) || add_item(r, &n, FIELD_RUSER, PAM_RUSER))
		return -1;
	if (add_environment(r, &n))
		return -1;

	for (int i = 0; i < argc; i++)
		if (add_field(r, &n, FIELD_ARGUMENT, argv[i], strlen(argv[i])))
			return -1;

	r->problem = "it does not take the request";
	r->fault = FAULT_ENDED;
	return send_frame(r, r->verb, r->buffer, n);
}

/* ---- the conversation ------------------------------------------------------------------------ */

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

	/* What response points to after an error is not defined. */
	if (code != PAM_SUCCESS || !response)
		return -1;

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

/* spoke_out_of_turn: a worker is silent while its question is open. That it has ended meanwhile is
 * seen here, as soon as the application returns; what was typed goes nowhere. */
static int spoke_out_of_turn(struct relay *r)
{
	char octet;
	ssize_t n = recv(r->worker.fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;

	r->problem = n > 0 ? "the worker spoke while its prompt was open" :
			     "it ended while its prompt was open";
	r->fault = n > 0 ? FAULT_PROTOCOL : FAULT_ENDED;
	return 1;
}

static int send_answer(struct relay *r, int status, const char *answer)
{
	/* An answer that is too long is none: cut off it would be another one, and cost a try. */
	size_t length = answer ? strlen(answer) : 0;
	if (length > RELAY_MAX_ANSWER) {
		status = ANSWER_FAILED;
		length = 0;
	}

	unsigned char payload[1 + RELAY_MAX_ANSWER];
	payload[0] = (unsigned char)status;
	if (length)
		memcpy(payload + 1, answer, length);

	r->problem = "it does not take the answer";
	r->fault = FAULT_ENDED;

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

	/* 0 ends the wait: the limit of silence holds again. */
	r->wait_until = ms ? relay_now() + ms : 0;
	return 0;
}

/* ---- the verdict ----------------------------------------------------------------------------- */

enum { MAX_VARIABLES = 3 }; /* PKCS11_LOGIN_* */

struct verdict {
	int code; /* -1 until it is there */
	char *user, *authtok;
	char *variables[MAX_VARIABLES]; /* NAME=value, or NULL */
};

/* may_answer knows every code that this module returns, and when. Having asked, it has an
 * opinion. */
static int may_answer(const struct relay *r, int code)
{
	if (r->required)
		return code == PAM_SUCCESS || code == PAM_CRED_INSUFFICIENT;

	if (code == PAM_IGNORE)
		return r->prompts == 0;

	if (r->verb == VERB_CHANGE)
		return code == PAM_SUCCESS || code == PAM_AUTHTOK_ERR;

	return code == PAM_SUCCESS || code == PAM_AUTH_ERR || code == PAM_CRED_INSUFFICIENT ||
	       code == PAM_AUTHINFO_UNAVAIL;
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

	/* A control character in a name could forge a line of somebody's log. */
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
		/* A tag and a length of two octets: what is shorter is no field. */
		if (end - p < 3)
			return -1;
		size_t length = p[1] | (size_t)p[2] << 8;
		if ((size_t)(end - p) - 3 < length || take_field(v, p[0], p + 3, length))
			return -1;
		p += 3 + length;
	}

	return v->code >= 0 && may_answer(r, v->code) ? 0 : -1;
}

/* write_line writes one line of the host's own. */
static void write_line(const struct relay *r, int priority, const char *reason, const char *text)
{
	struct host_line line = {
		.priority = priority,
		.kind = r->verb == VERB_CHANGE ? "chauthtok" : "auth",
		.reason = reason,
		.text = text,
	};
	host_log(r->pam, r->pamh, &line);
}

/* apply lets a success take effect. The name that was given stays; the worker must mean the same
 * one. */
static int apply(struct relay *r, const struct verdict *v)
{
	const void *given = NULL;

	if (r->verb == VERB_CHANGE)
		return 0;
	if (!v->user)
		return -1;

	if (r->user_given) {
		if (r->pam->get_item(r->pamh, PAM_USER, &given) != PAM_SUCCESS)
			return -1;
		if (!given || strcmp(given, v->user) != 0)
			return -1;
	} else if (r->pam->set_item(r->pamh, PAM_USER, v->user) != PAM_SUCCESS) {
		return -1;
	}

	/* The user is who he is: what fails from here on is no reason to refuse him. */
	for (int i = 0; i < MAX_VARIABLES; i++)
		if (v->variables[i] && r->pam->putenv(r->pamh, v->variables[i]) != PAM_SUCCESS)
			write_line(r, LOG_WARNING, NULL, "a PKCS11_LOGIN variable could not be set");
	if (v->authtok && r->pam->set_item(r->pamh, PAM_AUTHTOK, v->authtok) != PAM_SUCCESS)
		write_line(r, LOG_WARNING, NULL, "the PIN could not be forwarded");
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

	/* The PIN is wiped on every way out. */
	wipe_and_free(v.authtok);
	free(v.user);
	for (int i = 0; i < MAX_VARIABLES; i++)
		free(v.variables[i]);
	return failed;
}

/* ---- the call -------------------------------------------------------------------------------- */

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
		case VERB_NOTES:
			failed = n != 0 || r->frames != 1;
			break;
		case VERB_REQUIRED:
			/* Once it is said it stays: a second frame that is malformed does not take it back. */
			failed = n != 0 || r->verb != VERB_AUTHENTICATE;
			r->required = !failed || r->required;
			break;
		case VERB_VERDICT:
			r->judged = 1;
			return on_verdict(r, n, code) == 0;
		}

		if (failed)
			return 0;
	}
}

/* glibc runs what is registered here also when a longjmp, pthread_exit or cancellation out of the
 * conversation leaves our frame: without it the worker would wait at its prompt for as long as the
 * host lives. Another C library does not have it. */
extern void _pthread_cleanup_push(struct _pthread_cleanup_buffer *, void (*)(void *), void *) __attribute__((weak));
extern void _pthread_cleanup_pop(struct _pthread_cleanup_buffer *, int) __attribute__((weak));

/* abandon may run in a signal handler: system calls only, so the memory is wiped and stays. */
static void abandon(void *argument)
{
	struct relay *r = argument;
	if (r->worker.fd >= 0)
		end_worker(&r->worker, 0);
	if (r->notes >= 0)
		close(r->notes);
	explicit_bzero(r, sizeof *r);
}

/* The line of a login takes a log that answers less than a millisecond. */
enum { CONFIRM_MS = 200 };

int relay_confirm(struct relay *r, int taken)
{
	unsigned char word = taken != 0, rest;
	r->total_until = relay_now() + CONFIRM_MS;
	if (send_frame(r, VERB_TAKEN, &word, sizeof word))
		return 0;

	/* The worker closes its end once the login has its line in the log. */
	return transfer(r->worker.fd, &rest, sizeof rest, 0, r->total_until, NULL) == CLOSED;
}

/* fault_code: a crash must not open another way in to somebody who must use a card. */
static int fault_code(const struct relay *r, int fault)
{
	return r->required ? PAM_CRED_INSUFFICIENT : fault;
}

static int serve(struct relay *r, int flags, int argc, const char **argv, int fault)
{
	int code = fault;
	r->fault = FAULT_NOT_STARTED;
	r->problem = r->why;
	if (spawn_worker(&r->worker, r->why, sizeof r->why))
		return fault;

	r->total_until = relay_now() + relay_total;
	r->silence_until = relay_now() + relay_silence;

	int answered = !send_request(r, flags, argc, argv) && relay_serve(r, &code);
	int written = r->judged && relay_confirm(r, answered);

	/* After its line the worker finalises its library, in a time of its own, and ends by itself; it
	 * holds no card: the user need not wait for that. */
	if (answered && written)
		leave_worker(&r->worker);
	else
		r->status = end_worker(&r->worker, answered ? 0 : 1000);

	if (answered)
		r->problem = NULL;
	else
		relay_explain(r);

	return answered ? code : fault_code(r, fault);
}

/* PAM_SILENT does not keep the reason of a failure back: sudo sets it always. Whether the
 * configuration says quiet is known to the worker alone. */
void relay_tell_fault(struct relay *r, int argc, const char **argv)
{
	char *answer = NULL;
	for (int i = 0; i < argc; i++)
		if (!strcmp(argv[i], "quiet"))
			return;

	converse(r, PAM_ERROR_MSG, relay_fault_text(r->fault), &answer);
	wipe_and_free(answer);
}

/* ---- why there is no verdict ----------------------------------------------------------------- */

/* one_line cuts a text of the worker's at its first line and makes it printable: it goes into the
 * log. */
static void one_line(char *text)
{
	for (; *text && *text != '\n'; text++)
		if ((unsigned char)*text < ' ' || (unsigned char)*text >= 0x7f)
			*text = '?';
	*text = 0;
}

/* read_notes reads a part of the file of VERB_NOTES, which ends by a NUL then. */
static void read_notes(const struct relay *r, char *to, size_t room, off_t from)
{
	ssize_t n = r->notes < 0 ? -1 : pread(r->notes, to, room - 1, from);
	to[n < 0 ? 0 : n] = 0;
}

/* is_crash: signals that a process sends itself. */
static int is_crash(int signal)
{
	return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE ||
	       signal == SIGABRT || signal == SIGTRAP || signal == SIGSYS;
}

/* how_it_ended writes the end of the worker that its status tells, where the kernel does. */
static void how_it_ended(const struct relay *r, char *to, size_t room)
{
	if (r->status >= 0 && WIFSIGNALED(r->status))
		snprintf(to, room, " (signal %d)", WTERMSIG(r->status));
	else if (r->status >= 0 && WEXITSTATUS(r->status) == 127)
		snprintf(to, room, " (status 127, as when a library, or a function that one of them calls, is missing)");
	else if (r->status >= 0)
		snprintf(to, room, " (status %d)", WEXITSTATUS(r->status));
}

/* What was noted of the end of a worker. */
struct ending {
	char head[NOTES_PLACE];
	char place[NOTES_SIZE - NOTES_PLACE];
	char crash[128]; /* of Go's runtime, which then leaves with a status of its own */
	char how[128];
};

/* refine tells apart what ended a worker that was expected to go on. */
static enum relay_fault refine(const struct relay *r, const struct ending *e)
{
	/* Go's runtime ends a crash with a status of its own, so that the note counts more. */
	if (*e->crash || e->head[NOTES_EXITED] == 2)
		return FAULT_CRASHED;
	if (r->status >= 0 && WIFSIGNALED(r->status))
		return is_crash(WTERMSIG(r->status)) ? FAULT_CRASHED : FAULT_KILLED;

	return r->frames || e->head[NOTES_EXITED] ? FAULT_ENDED : FAULT_NOT_STARTED;
}

/* itself is the worker's own word of its end; without one, and without a status, it may also have
 * been killed. */
static const char *itself(const struct relay *r, const struct ending *e)
{
	if (r->fault == FAULT_DEADLINE || *e->crash)
		return "";

	switch (e->head[NOTES_EXITED]) {
	case 1:
		return ", by exit()";
	case 2:
		return ", by abort()";
	}

	return r->status < 0 ? ", or was killed: the kernel does not tell" : "";
}

void relay_explain(struct relay *r)
{
	static const char *const what[] = {
		[FAULT_CRASHED] = "the worker crashed",
		[FAULT_KILLED] = "the worker was killed",
		[FAULT_ENDED] = "the worker ended without a verdict",
		[FAULT_DEADLINE] = "the worker was too slow",
		[FAULT_NOT_STARTED] = "the worker could not start",
	};
	struct ending e = {.how = ""};
	char detail[sizeof r->why];

	/* For the other faults the reason is known already. */
	if (r->fault != FAULT_ENDED && r->fault != FAULT_DEADLINE)
		return;

	read_notes(r, e.head, sizeof e.head, 0);
	read_notes(r, e.place, sizeof e.place, NOTES_PLACE);
	read_notes(r, e.crash, sizeof e.crash, NOTES_CRASH);

	/* The worker may have been taken over by what crashed it: its notes are text for a log, no
	 * more. */
	one_line(e.place);
	one_line(e.crash);
	how_it_ended(r, e.how, sizeof e.how);

	if (r->fault == FAULT_ENDED)
		r->fault = refine(r, &e);

	snprintf(detail, sizeof detail, "%s: %.100s%s%s%s%s%s%s", what[r->fault], r->problem,
		itself(r, &e), e.how, *e.crash ? ", " : "", e.crash, *e.place ? "; it was " : "", e.place);

	memcpy(r->why, detail, sizeof r->why);
	r->problem = r->why;

	/* The user must know that his PIN may be another one now, whatever ended the worker. */
	if (e.head[NOTES_CHANGING])
		r->fault = FAULT_PIN_CHANGE;
}

/* report writes why there is no verdict. The reasons are words like those of the worker's
 * refusals. */
static void report(const struct relay *r)
{
	static const char *const reasons[] = {
		[FAULT_PROTOCOL] = "worker_protocol",
		[FAULT_CRASHED] = "worker_crashed",
		[FAULT_KILLED] = "worker_killed",
		[FAULT_ENDED] = "worker_ended",
		[FAULT_DEADLINE] = "deadline",
		[FAULT_NOT_STARTED] = "worker_not_started",
		[FAULT_PIN_CHANGE] = "worker_ended_in_pin_change",
	};
	char text[sizeof r->why + 128];
	snprintf(text, sizeof text, "no answer from the worker: %s%s", r->problem,
		r->fault == FAULT_PIN_CHANGE ? "; the PIN may have been changed" : "");
	write_line(r, LOG_ERR, reasons[r->fault], text);
}

/* fails_closed: the argument fail_closed lets nobody past a module that cannot answer. */
static int fails_closed(int verb, int argc, const char **argv)
{
	for (int i = 0; i < argc && verb == VERB_AUTHENTICATE; i++)
		if (!strcmp(argv[i], "fail_closed"))
			return 1;
	return 0;
}

int relay_run(pam_handle_t *pamh, int verb, int flags, int argc, const char **argv, int fault)
{
	if (fails_closed(verb, argc, argv))
		fault = PAM_CRED_INSUFFICIENT;

	struct _pthread_cleanup_buffer registered;
	const struct libpam *pam = libpam();
	struct relay *r = pam ? calloc(1, sizeof *r) : NULL;
	if (!r) {
		syslog(LOG_AUTHPRIV | LOG_ERR, "pam_pkcs11: %s",
			pam ? "no memory" : "libpam.so.0 is not loaded");
		return fault;
	}

	r->pam = pam;
	r->pamh = pamh;
	r->verb = verb;
	r->worker.fd = r->worker.pidfd = -1;
	r->status = r->notes = -1;

	if (_pthread_cleanup_push)
		_pthread_cleanup_push(&registered, abandon, r);

	int code = serve(r, flags, argc, argv, fault);
	if (r->problem) {
		report(r);
		relay_tell_fault(r, argc, argv);
	}

	if (_pthread_cleanup_push)
		_pthread_cleanup_pop(&registered, 0);

	if (r->notes >= 0)
		close(r->notes);
	/* What the application was asked and has answered was in the buffer. */
	explicit_bzero(r, sizeof *r);
	free(r);
	return code;
}
