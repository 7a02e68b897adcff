/* Measures a PC/SC daemon through the libpcsclite that is installed.
 *
 *   scbench apdu SEND RECEIVE ROUNDS          one client: nanoseconds of each SCardTransmit: p50 p99
 *   scbench load CLIENTS SEND RECEIVE SECONDS all clients at once: commands per second, p50 p99 max
 *   scbench transactions CLIENTS SECONDS      begin, one command, end, in a loop: handover p50 p99 max, grants min max
 *   scbench wait COUNT                        SCardGetStatusChange, prints the monotonic clock at each return
 *   scbench idle CLIENTS                      waits for changes until it is killed
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <winscard.h>

static char reader[128];
static unsigned long sendLength, receiveLength;

/* What all clients share, who are processes: as in life, and libpcsclite 1.9 does not bear contexts that come and go in
 * many threads at once. */
struct shared {
	volatile int begin, end, ready;
	volatile long long released; /* when the transaction lock was given up last */
};
static struct shared *all;

struct client {
	long count, room, grants;
	long long *times;
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
	if (c->count < c->room)
		c->times[c->count] = t;
	c->count++;
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

static void load(struct client *c)
{
	SCARDCONTEXT context = establish();
	SCARDHANDLE card = connectCard(context);
	unsigned char *command = newCommand(), *answer = malloc(65548);
	__sync_fetch_and_add(&all->ready, 1);
	while (!all->begin)
		usleep(1000);
	while (!all->end) {
		long long t = now();
		transmit(card, command, answer);
		note(c, now() - t);
	}
	SCardDisconnect(card, SCARD_LEAVE_CARD);
	SCardReleaseContext(context);
}

static void transactions(struct client *c)
{
	SCARDCONTEXT context = establish();
	SCARDHANDLE card = connectCard(context);
	unsigned char *command = newCommand(), *answer = malloc(65548);
	__sync_fetch_and_add(&all->ready, 1);
	while (!all->begin)
		usleep(1000);
	while (!all->end) {
		long long before = all->released, got;
		check("SCardBeginTransaction", SCardBeginTransaction(card));
		got = now();
		if (all->released > before) /* somebody held it meanwhile: a handover */
			note(c, got - all->released);
		c->grants++;
		transmit(card, command, answer);
		all->released = now();
		check("SCardEndTransaction", SCardEndTransaction(card, SCARD_LEAVE_CARD));
	}
	SCardDisconnect(card, SCARD_LEAVE_CARD);
	SCardReleaseContext(context);
}

static void *share(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		perror("scbench: mmap");
		exit(1);
	}
	return p;
}

static long gather(struct client *clients, int n, long long **times)
{
	long total = 0;
	for (int i = 0; i < n; i++)
		total += clients[i].count < clients[i].room ? clients[i].count : clients[i].room;
	*times = malloc((total + 1) * sizeof **times);
	total = 0;
	for (int i = 0; i < n; i++) {
		long count = clients[i].count < clients[i].room ? clients[i].count : clients[i].room;
		memcpy(*times + total, clients[i].times, count * sizeof **times);
		total += count;
	}
	qsort(*times, total, sizeof **times, compare);
	return total;
}

/* start makes n processes, and lets them begin together. */
static struct client *start(int n, void (*work)(struct client *))
{
	struct client *clients = share(n * sizeof *clients);
	all = share(sizeof *all);
	for (int i = 0; i < n; i++) {
		clients[i].room = 4000000 / n;
		clients[i].times = share(clients[i].room * sizeof(long long));
		switch (fork()) {
		case -1:
			perror("scbench: fork");
			exit(1);
		case 0:
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			work(&clients[i]);
			_exit(0);
		}
	}
	while (all->ready < n) {
		if (waitpid(-1, NULL, WNOHANG) > 0)
			exit(1); /* it has said why */
		usleep(1000);
	}
	return clients;
}

static void runClients(int n, int seconds, void (*work)(struct client *), int isLoad)
{
	struct client *clients = start(n, work);
	long long *times, t;
	long total, sum = 0, least = -1, most = 0;
	int status;
	all->begin = 1;
	t = now();
	sleep(seconds);
	all->end = 1;
	t = now() - t;
	while (wait(&status) > 0)
		if (status)
			exit(1);
	total = gather(clients, n, &times);
	if (!total) {
		printf("0\n");
		return;
	}
	for (int i = 0; i < n; i++) {
		sum += clients[i].count;
		if (least < 0 || clients[i].grants < least)
			least = clients[i].grants;
		if (clients[i].grants > most)
			most = clients[i].grants;
	}
	if (isLoad)
		printf("%.0f %lld %lld %lld\n", sum * 1e9 / t, times[total / 2], times[total * 99 / 100], times[total - 1]);
	else
		printf("%lld %lld %lld %ld %ld\n", times[total / 2], times[total * 99 / 100], times[total - 1], least, most);
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
		struct client c = {.room = arg[2] + 1};
		SCARDCONTEXT context = establish();
		SCARDHANDLE card = connectCard(context);
		unsigned char *command, *answer = malloc(65548);
		sendLength = arg[0];
		receiveLength = arg[1];
		command = newCommand();
		c.times = malloc(c.room * sizeof *c.times);
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
