/* The relay without a worker, for tests: each request on standard input is a script of what a worker sends; the
 * answer on standard output is what the relay made of it. It serves any number of requests.
 *
 *   request: verb u8, options u8, segments u16, then for each: length u32 and that many octets
 *
 * A segment is sent after the relay has answered the prompt that ended the one before. Numbers are little endian. */
#define _GNU_SOURCE
#include "../host/relay.h"
#include "../host/spawn.h"
#include "clock.h"

#include <security/pam_appl.h>
#include <security/pam_ext.h>

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HOLD_OPEN = 1, USER_GIVEN = 2, CONVERSATION_FAILS = 4, NO_ARRAY = 8, NO_STRING = 16, LONG_ANSWER = 32, HAS_AUTHTOK = 64, NO_CONVERSATION = 128 };
enum { MAX_SEGMENTS = 512, MAX_SEGMENT = 1 << 17 };

/* ---- a PAM library of one transaction ------------------------------------------------------------ */

static int options;
static char *user, *authtok;
static char set[8192];
static int shown, asked;

static char *answer(void)
{
	if (options & NO_STRING)
		return NULL;
	if (!(options & LONG_ANSWER))
		return strdup("1234");
	char *s = malloc(514);
	memset(s, '7', 513);
	s[513] = 0;
	return s;
}

static int converse(int n, const struct pam_message **message, struct pam_response **response, void *data)
{
	(void)n, (void)data;
	int prompt = message[0]->msg_style == PAM_PROMPT_ECHO_OFF || message[0]->msg_style == PAM_PROMPT_ECHO_ON;
	*(prompt ? &asked : &shown) += 1;
	if (options & CONVERSATION_FAILS) {
		*response = (void *)1; /* not defined after an error: whoever reads it crashes */
		return PAM_CONV_ERR;
	}
	*response = NULL;
	if (options & NO_ARRAY)
		return PAM_SUCCESS;
	*response = calloc(1, sizeof **response);
	(*response)->resp = prompt ? answer() : NULL;
	return PAM_SUCCESS;
}

static const struct pam_conv conversation = {converse, NULL};

int pam_get_item(const pam_handle_t *pamh, int item, const void **value)
{
	(void)pamh;
	*value = NULL;
	if (item == PAM_CONV && !(options & NO_CONVERSATION))
		*value = &conversation;
	if (item == PAM_USER)
		*value = user;
	if (item == PAM_AUTHTOK && (options & HAS_AUTHTOK))
		*value = "5678";
	return PAM_SUCCESS;
}

int pam_set_item(pam_handle_t *pamh, int item, const void *value)
{
	(void)pamh;
	char **to = item == PAM_USER ? &user : item == PAM_AUTHTOK ? &authtok : NULL;
	if (!to)
		return PAM_BAD_ITEM;
	free(*to);
	*to = strdup(value);
	return PAM_SUCCESS;
}

const char *pam_getenv(pam_handle_t *pamh, const char *name)
{
	(void)pamh, (void)name;
	return NULL;
}

int pam_putenv(pam_handle_t *pamh, const char *entry)
{
	(void)pamh;
	size_t used = strlen(set);
	snprintf(set + used, sizeof set - used, "%.*s,", (int)strcspn(entry, "="), entry);
	return PAM_SUCCESS;
}

void pam_syslog(const pam_handle_t *pamh, int priority, const char *format, ...)
{
	(void)pamh, (void)priority, (void)format;
}

int spawn_worker(struct worker *w, char *problem, size_t room)
{
	(void)w;
	snprintf(problem, room, "no worker in a test");
	return -1;
}

void leave_worker(struct worker *w)
{
	(void)w;
}

int end_worker(struct worker *w, int wait_ms)
{
	(void)w, (void)wait_ms;
	return -1;
}

/* ---- the worker's end ---------------------------------------------------------------------------- */

struct script {
	int fd, count;
	unsigned char *data[MAX_SEGMENTS];
	uint32_t length[MAX_SEGMENTS];
};

static int whole(int fd, void *data, size_t n)
{
	for (char *p = data; n;) {
		ssize_t k = read(fd, p, n);
		if (k <= 0)
			return -1;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

static uint32_t number(const unsigned char *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int discard_answer(int fd)
{
	unsigned char header[RELAY_HEADER], payload[RELAY_MAX_ANSWER + 1];
	clock_worker_waits();
	if (whole(fd, header, sizeof header) || number(header + 4) > sizeof payload)
		return -1;
	if (whole(fd, payload, number(header + 4)))
		return -1;
	clock_worker_took((int64_t)sizeof header + number(header + 4));
	return 0;
}

static void *play(void *argument)
{
	struct script *s = argument;
	for (int i = 0; i < s->count; i++) {
		if (i && discard_answer(s->fd))
			break;
		if (s->length[i] && send(s->fd, s->data[i], s->length[i], MSG_NOSIGNAL) < 0)
			break;
	}
	if (!(options & HOLD_OPEN))
		shutdown(s->fd, SHUT_WR);
	clock_worker_done();
	return NULL;
}

static int read_script(struct script *s, int *verb)
{
	unsigned char head[4], size[4];
	if (whole(0, head, sizeof head))
		return -1;
	*verb = head[0];
	options = head[1];
	s->count = head[2] | head[3] << 8;
	if (s->count > MAX_SEGMENTS)
		return -1;
	for (int i = 0; i < s->count; i++) {
		if (whole(0, size, sizeof size) || (s->length[i] = number(size)) > MAX_SEGMENT)
			return -1;
		s->data[i] = malloc(s->length[i] + 1);
		if (whole(0, s->data[i], s->length[i]))
			return -1;
	}
	return 0;
}

/* A text as one word, with %XX for what would part it; "-" is no text. */
static void print_word(const char *text)
{
	putchar(' ');
	if (!text)
		putchar('-');
	for (; text && *text; text++)
		if (isalnum((unsigned char)*text) || strchr("_=,", *text))
			putchar(*text);
		else
			printf("%%%02X", (unsigned char)*text);
}

static void serve(struct script *s, int verb)
{
	static struct relay r;
	int pair[2], code = -1;
	pthread_t worker;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		exit(2);
	memset(&r, 0, sizeof r);
	r.worker.fd = pair[0];
	r.pamh = (pam_handle_t *)&r; /* never looked into */
	r.pam = libpam();
	r.worker.pidfd = r.notes = -1;
	r.verb = verb;
	r.user_given = (options & USER_GIVEN) != 0;
	free(user);
	free(authtok);
	user = r.user_given ? strdup("alice") : NULL;
	authtok = NULL;
	set[0] = 0;
	shown = asked = 0;
	clock_begin(pair[0]);
	int64_t begin = relay_now();
	r.silence_until = begin + relay_silence;
	r.total_until = begin + relay_total;
	s->fd = pair[1];
	pthread_create(&worker, NULL, play, s);
	int answered = relay_serve(&r, &code);
	if (r.notes >= 0)
		close(r.notes);
	close(pair[0]);
	pthread_join(worker, NULL);
	close(pair[1]);
	printf("%d %d %d %d %d", answered, code, asked, shown, (int)(relay_now() - begin));
	print_word(user);
	print_word(*set ? set : NULL);
	print_word(authtok);
	putchar('\n');
	fflush(stdout);
}

const struct libpam *libpam(void)
{
	static const struct libpam functions = {pam_get_item, pam_set_item, pam_putenv, pam_getenv, pam_syslog};
	return &functions;
}

int main(void)
{
	struct script s;
	for (int verb; !read_script(&s, &verb);) {
		serve(&s, verb);
		for (int i = 0; i < s.count; i++)
			free(s.data[i]);
	}
	return 0;
}
