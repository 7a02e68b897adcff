/* Measures a PC/SC daemon through the libpcsclite that is installed.
 *
 *   scbench apdu SEND RECEIVE ROUNDS          one client: nanoseconds of each SCardTransmit: p50 p99
 *   scbench load CLIENTS SEND RECEIVE SECONDS all clients at once: commands per second, p50 p99 max
 *   scbench transactions CLIENTS SECONDS      begin, one command, end, in a loop: handover p50 p99 max, grants min max
 *   scbench wait COUNT                        SCardGetStatusChange, prints the monotonic clock at each return
 *   scbench idle CLIENTS                      waits for changes until it is killed
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <winscard.h>

static char reader[128];
static unsigned long sendLength, receiveLength;
static volatile int begin, end;
static volatile long long released; /* when the transaction lock was given up last */

struct client {
	pthread_t thread;
	long long *times;
	long count, room, grants;
};

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void check(const char *what, LONG rv)
{
	if (rv == SCARD_S_SUCCESS)
		return;
	fprintf(stderr, "scbench: %s: 0x%08lX\n", what, (unsigned long)rv);
	exit(1);
}

static void note(struct client *c, long long t)
{
	if (c->count == c->room) {
		c->room = c->room ? 2 * c->room : 4096;
		c->times = realloc(c->times, c->room * sizeof *c->times);
		if (!c->times)
			exit(1);
	}
	c->times[c->count++] = t;
}

static int compare(const void *a, const void *b)
{
	long long x = *(const long long *)a, y = *(const long long *)b;
	return x < y ? -1 : x > y;
}

static SCARDCONTEXT establish(void)
{
	SCARDCONTEXT context;
	char names[4096];
	DWORD length = sizeof names;
	const char *which = getenv("SCBENCH_READER");
	int n = which ? atoi(which) : 0;
	char *p = names;
	check("SCardEstablishContext", SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context));
	check("SCardListReaders", SCardListReaders(context, NULL, names, &length));
	while (n-- > 0 && *p)
		p += strlen(p) + 1;
	snprintf(reader, sizeof reader, "%.127s", p);
	return context;
}

static SCARDHANDLE connectCard(SCARDCONTEXT context)
{
	SCARDHANDLE card;
	DWORD protocol;
	check("SCardConnect", SCardConnect(context, reader, SCARD_SHARE_SHARED, SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1, &card, &protocol));
	return card;
}

static void transmit(SCARDHANDLE card, unsigned char *command, unsigned char *answer)
{
	DWORD length = 65548;
	check("SCardTransmit", SCardTransmit(card, SCARD_PCI_T1, command, sendLength, NULL, answer, &length));
	if (length != receiveLength) {
		fprintf(stderr, "scbench: %lu bytes in place of %lu\n", (unsigned long)length, receiveLength);
		exit(1);
	}
}

static unsigned char *newCommand(void)
{
	unsigned char *c = calloc(1, 65548);
	if (!c)
		exit(1);
	c[1] = receiveLength >> 16;
	c[2] = receiveLength >> 8;
	c[3] = receiveLength;
	return c;
}

static void *load(void *arg)
{
	struct client *c = arg;
	SCARDCONTEXT context = establish();
	SCARDHANDLE card = connectCard(context);
	unsigned char *command = newCommand(), *answer = malloc(65548);
	__sync_fetch_and_add(&c->grants, 1);
	while (!begin)
		usleep(1000);
	while (!end) {
		long long t = now();
		transmit(card, command, answer);
		note(c, now() - t);
	}
	SCardDisconnect(card, SCARD_LEAVE_CARD);
	SCardReleaseContext(context);
	return NULL;
}

static void *transactions(void *arg)
{
	struct client *c = arg;
	SCARDCONTEXT context = establish();
	SCARDHANDLE card = connectCard(context);
	unsigned char *command = newCommand(), *answer = malloc(65548);
	while (!begin)
		usleep(1000);
	while (!end) {
		long long before = released, got;
		check("SCardBeginTransaction", SCardBeginTransaction(card));
		got = now();
		if (released > before) /* somebody held it meanwhile: a handover */
			note(c, got - released);
		c->grants++;
		transmit(card, command, answer);
		released = now();
		check("SCardEndTransaction", SCardEndTransaction(card, SCARD_LEAVE_CARD));
	}
	SCardDisconnect(card, SCARD_LEAVE_CARD);
	SCardReleaseContext(context);
	return NULL;
}

static long gather(struct client *clients, int n, long long **all)
{
	long total = 0, at = 0;
	for (int i = 0; i < n; i++)
		total += clients[i].count;
	*all = malloc((total + 1) * sizeof **all);
	for (int i = 0; i < n; i++) {
		memcpy(*all + at, clients[i].times, clients[i].count * sizeof **all);
		at += clients[i].count;
	}
	qsort(*all, total, sizeof **all, compare);
	return total;
}

static void runClients(int n, int seconds, void *(*work)(void *), int isLoad)
{
	struct client *clients = calloc(n, sizeof *clients);
	long long *all, t;
	long total, least = -1, most = 0;
	for (int i = 0; i < n; i++)
		pthread_create(&clients[i].thread, NULL, work, &clients[i]);
	usleep(300000 + 5000 * n);
	begin = 1;
	t = now();
	sleep(seconds);
	end = 1;
	t = now() - t;
	for (int i = 0; i < n; i++)
		pthread_join(clients[i].thread, NULL);
	total = gather(clients, n, &all);
	if (!total) {
		printf("0\n");
		return;
	}
	if (isLoad) {
		printf("%.0f %lld %lld %lld\n", total * 1e9 / t, all[total / 2], all[total * 99 / 100], all[total - 1]);
		return;
	}
	for (int i = 0; i < n; i++) {
		if (least < 0 || clients[i].grants < least)
			least = clients[i].grants;
		if (clients[i].grants > most)
			most = clients[i].grants;
	}
	printf("%lld %lld %lld %ld %ld\n", all[total / 2], all[total * 99 / 100], all[total - 1], least, most);
}

static void waitForChanges(int count, int print)
{
	SCARDCONTEXT context = establish();
	SCARD_READERSTATE state;
	memset(&state, 0, sizeof state);
	state.szReader = reader;
	check("SCardGetStatusChange", SCardGetStatusChange(context, 0, &state, 1));
	if (print) {
		printf("ready\n");
		fflush(stdout);
	}
	for (int i = 0; i < count; i++) {
		state.dwCurrentState = state.dwEventState & ~SCARD_STATE_CHANGED;
		check("SCardGetStatusChange", SCardGetStatusChange(context, INFINITE, &state, 1));
		if (print) {
			printf("%lld\n", now());
			fflush(stdout);
		}
	}
}

static void *idle(void *arg)
{
	(void)arg;
	waitForChanges(1000000, 0);
	return NULL;
}

int main(int argc, char **argv)
{
	long arg[5] = {0};
	for (int i = 2; i < argc && i < 7; i++)
		arg[i - 2] = atol(argv[i]);
	if (argc < 2)
		return 2;
	sendLength = 5;
	receiveLength = 2;
	if (!strcmp(argv[1], "apdu")) {
		struct client c = {0};
		SCARDCONTEXT context = establish();
		SCARDHANDLE card = connectCard(context);
		unsigned char *command, *answer = malloc(65548);
		sendLength = arg[0];
		receiveLength = arg[1];
		command = newCommand();
		for (long i = 0; i < arg[2] + arg[2] / 10; i++) {
			long long t = now();
			transmit(card, command, answer);
			if (i >= arg[2] / 10)
				note(&c, now() - t);
		}
		qsort(c.times, c.count, sizeof *c.times, compare);
		printf("%lld %lld\n", c.times[c.count / 2], c.times[c.count * 99 / 100]);
		return 0;
	}
	if (!strcmp(argv[1], "load")) {
		sendLength = arg[1];
		receiveLength = arg[2];
		runClients(arg[0], arg[3], load, 1);
		return 0;
	}
	if (!strcmp(argv[1], "transactions")) {
		runClients(arg[0], arg[1], transactions, 0);
		return 0;
	}
	if (!strcmp(argv[1], "wait")) {
		waitForChanges(arg[0], 1);
		return 0;
	}
	if (!strcmp(argv[1], "idle")) {
		pthread_t t;
		for (long i = 0; i < arg[0]; i++)
			pthread_create(&t, NULL, idle, NULL);
		for (;;)
			pause();
	}
	return 2;
}
