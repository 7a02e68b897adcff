/* The least that a PC/SC daemon can do: it plays the conversation of one reader and one card that answers 90 00 at once,
 * with no rules, no locks and no log. What stock libpcsclite reaches with this is about the most that any daemon gets on
 * the machine; clients are shared out among as many threads as there are cores, each with an epoll of its own.
 *
 *   echo SOCKET
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { ESTABLISH = 1, RELEASE, CONNECT = 4, DISCONNECT = 6, TRANSMIT = 9, VERSION = 0x11, STATES = 0x12 };

struct client {
	int fd;
	size_t have;
	unsigned char in[4096];
};

/* answer fills in the body of a request and gives how long the answer is, 0 for what it does not know. */
static size_t answer(int fd, uint32_t command, unsigned char *body)
{
	uint32_t *word = (uint32_t *)body;
	switch (command) {
	case VERSION:
	case DISCONNECT:
		word[2] = 0;
		return 12;
	case ESTABLISH:
		word[1] = 1000 + fd;
		word[2] = 0;
		return 12;
	case RELEASE:
		word[1] = 0;
		return 8;
	case CONNECT:
		word[35] = 2000 + fd;
		word[36] = 2; /* T=1 */
		word[37] = 0;
		return 152;
	case STATES:
		memset(body, 0, 16 * 184);
		strcpy((char *)body, "Echo 00 00");
		word[33] = 0x34; /* present, powered, negotiable */
		return 16 * 184;
	case TRANSMIT:
		word[4] = word[6] = 2;
		word[7] = 0;
		memcpy(body + 32, "\x90\x00", 2);
		return 34;
	}
	return 0;
}

/* serve takes what has come and answers what is whole. */
static int serve(struct client *c)
{
	size_t used = 0;
	ssize_t n = recv(c->fd, c->in + c->have, sizeof c->in - c->have, MSG_DONTWAIT);
	if (n <= 0)
		return -1;
	for (c->have += n; c->have - used >= 8;) {
		uint32_t header[2], body[16 * 184 / 4];
		unsigned char *at = c->in + used;
		size_t whole, length;
		memcpy(header, at, sizeof header);
		whole = sizeof header + header[0];
		if (header[0] > 512)
			return -1;
		if (c->have - used < whole)
			break;
		memcpy(body, at + sizeof header, header[0]);
		if (header[1] == TRANSMIT)
			whole += body[3] < 512 ? body[3] : 512;
		if (c->have - used < whole)
			break;
		used += whole;
		length = answer(c->fd, header[1], (unsigned char *)body);
		if (length == 0 || send(c->fd, body, length, MSG_NOSIGNAL) != (ssize_t)length)
			return -1;
	}
	memmove(c->in, c->in + used, c->have - used);
	c->have -= used;
	return 0;
}

static void *work(void *epoll)
{
	struct epoll_event events[128];
	for (;;) {
		int n = epoll_wait(*(int *)epoll, events, 128, -1);
		for (int i = 0; i < n; i++) {
			struct client *c = events[i].data.ptr;
			if (serve(c) != 0) {
				close(c->fd);
				free(c);
			}
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), epolls[64];
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
		fprintf(stderr, "usage: echo SOCKET\n");
		return 2;
	}
	strcpy(address.sun_path, argv[1]);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0) {
		perror("echo");
		return 1;
	}
	if (cores > 64)
		cores = 64;
	for (long i = 0; i < cores; i++) {
		pthread_t thread;
		epolls[i] = epoll_create1(0);
		if (pthread_create(&thread, NULL, work, &epolls[i]) != 0)
			return 1;
	}
	for (long next = 0;; next = (next + 1) % cores) {
		struct client *c = calloc(1, sizeof *c);
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
		if (!c || (c->fd = accept(listener, NULL, NULL)) < 0)
			return 1;
		epoll_ctl(epolls[next], EPOLL_CTL_ADD, c->fd, &e);
	}
}
