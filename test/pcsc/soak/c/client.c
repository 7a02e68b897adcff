/* One client of the soak test: client NUMBER PROGRESS. It uses cards through libpcsclite until it is killed, and adds one to
 * its number in the file PROGRESS after each piece of work. What is not a right answer or an error that is
 * documented for what goes on around it ends the program with a line that says so. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>
#include <winscard.h>

static unsigned number;
static uint32_t random_;

static unsigned dice(unsigned n)
{
	random_ = random_ * 1664525 + 1013904223;
	return (random_ >> 8) % n;
}

static void fault(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	fprintf(stderr, "client %u: ", number);
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
	exit(3);
}

static void stuck(int signal)
{
	static const char text[] = "client: a call does not return\n";
	(void)signal;
	if (write(2, text, sizeof text - 1)) {}
	_exit(4);
}

/* The daemon ends and begins again. */
static int isGone(LONG rv)
{
	return rv == SCARD_F_COMM_ERROR || rv == SCARD_E_NO_SERVICE || rv == SCARD_E_INVALID_HANDLE || rv == SCARD_E_SERVICE_STOPPED ||
		rv == SCARD_W_SECURITY_VIOLATION /* libpcsclite says so when the connection breaks in the handshake */;
}

/* The card or the reader moves, or another client resets the card. */
static int hasMoved(LONG rv)
{
	return rv == SCARD_W_RESET_CARD || rv == SCARD_W_REMOVED_CARD || rv == SCARD_E_NO_SMARTCARD || rv == SCARD_E_UNKNOWN_READER ||
		rv == SCARD_E_READER_UNAVAILABLE || rv == SCARD_E_INVALID_VALUE || rv == SCARD_E_NO_READERS_AVAILABLE;
}

enum { DONE, AGAIN, LOST }; /* go on, connect anew, begin with a new context */

static int judge(const char *call, LONG rv)
{
	if (rv == SCARD_S_SUCCESS)
		return DONE;
	if (isGone(rv))
		return LOST;
	if (hasMoved(rv))
		return AGAIN;
	fault("%s: 0x%08lX", call, (unsigned long)rv);
	return LOST;
}

static int exchange(SCARDHANDLE card, DWORD protocol, const unsigned char *command, DWORD length, const unsigned char *want, DWORD wanted)
{
	unsigned char answer[300];
	DWORD got = sizeof answer;
	LONG rv = SCardTransmit(card, protocol == SCARD_PROTOCOL_T0 ? SCARD_PCI_T0 : SCARD_PCI_T1, command, length, NULL, answer, &got);
	/* A reset by another leaves no protocol until it has connected again. */
	if (rv == SCARD_E_PROTO_MISMATCH)
		return AGAIN;
	/* The card was exchanged and nobody has noticed yet: the new one is off. */
	if (rv == SCARD_E_NOT_TRANSACTED)
		return AGAIN;
	if (rv == SCARD_S_SUCCESS && (got != wanted || memcmp(answer, want, got)))
		fault("a wrong answer of %lu bytes to %02X", (unsigned long)got, command[0]);
	return judge("SCardTransmit", rv);
}

static int echo(SCARDHANDLE card, DWORD protocol)
{
	unsigned char command[200], want[202];
	DWORD length = 5 + dice(150);
	command[0] = 0x80;
	for (DWORD i = 1; i < length; i++)
		command[i] = dice(256);
	memcpy(want, command, length);
	want[length] = 0x90;
	want[length + 1] = 0;
	return exchange(card, protocol, command, length, want, length + 2);
}

/* In a transaction nobody else touches what the card keeps. */
static int transaction(SCARDHANDLE card, DWORD protocol)
{
	unsigned char store[6] = {0x10, 0, 0, 0}, load[4] = {0x20, 0, 0, 0}, want[4] = {0, 0, 0x90, 0};
	int result = judge("SCardBeginTransaction", SCardBeginTransaction(card));
	LONG rv;
	if (result != DONE)
		return result;
	store[4] = want[0] = number >> 8;
	store[5] = want[1] = number;
	result = exchange(card, protocol, store, 6, want + 2, 2);
	for (unsigned i = dice(4); i > 0 && result == DONE; i--)
		result = echo(card, protocol);
	if (result == DONE)
		result = exchange(card, protocol, load, 4, want, 4);
	rv = SCardEndTransaction(card, dice(20) ? SCARD_LEAVE_CARD : SCARD_RESET_CARD);
	if (rv == SCARD_E_NOT_TRANSACTED && result != DONE) /* the card took the lock with it */
		rv = SCARD_S_SUCCESS;
	return result == DONE ? judge("SCardEndTransaction", rv) : result;
}

static int status(SCARDCONTEXT context, const char *reader)
{
	SCARD_READERSTATE state;
	LONG rv;
	memset(&state, 0, sizeof state);
	state.szReader = reader;
	rv = SCardGetStatusChange(context, 0, &state, 1);
	if (rv == SCARD_S_SUCCESS) {
		state.dwCurrentState = state.dwEventState & ~SCARD_STATE_CHANGED;
		rv = SCardGetStatusChange(context, dice(300), &state, 1);
	}
	return rv == SCARD_E_TIMEOUT ? DONE : judge("SCardGetStatusChange", rv);
}

static int use(SCARDCONTEXT context, const char *reader, volatile uint64_t *progress)
{
	SCARDHANDLE card;
	DWORD protocol;
	int result = judge("SCardConnect", SCardConnect(context, reader, SCARD_SHARE_SHARED, SCARD_PROTOCOL_ANY, &card, &protocol));
	if (result != DONE)
		return result;
	for (unsigned i = dice(30); i > 0 && result == DONE; i--) {
		alarm(120);
		switch (dice(4)) {
		case 0:
			result = echo(card, protocol);
			break;
		case 1:
			result = status(context, reader);
			break;
		default:
			result = transaction(card, protocol);
		}
		++*progress;
		if (result == AGAIN && dice(2)) {
			LONG rv = SCardReconnect(card, SCARD_SHARE_SHARED, SCARD_PROTOCOL_ANY, SCARD_LEAVE_CARD, &protocol);
			result = judge("SCardReconnect", rv);
		}
	}
	if (result != LOST)
		result = judge("SCardDisconnect", SCardDisconnect(card, dice(10) ? SCARD_LEAVE_CARD : SCARD_RESET_CARD));
	return result;
}

int main(int argc, char **argv)
{
	volatile uint64_t *progress;
	int fd;
	if (argc != 3)
		return 2;
	number = atoi(argv[1]);
	random_ = getpid() * 2654435761u;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGALRM, stuck);
	fd = open(argv[2], O_RDWR);
	progress = mmap(NULL, 8 * (number + 1), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (progress == MAP_FAILED)
		return 2;
	progress += number;
	for (;;) {
		SCARDCONTEXT context;
		int result = DONE;
		alarm(120);
		if (judge("SCardEstablishContext", SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context)) != DONE) {
			usleep(20000);
			continue;
		}
		for (unsigned i = dice(10); i > 0 && result != LOST; i--) {
			char names[4096], *reader = names;
			DWORD length = sizeof names;
			alarm(120);
			result = judge("SCardListReaders", SCardListReaders(context, NULL, names, &length));
			if (result != DONE) {
				usleep(5000);
				continue;
			}
			for (unsigned n = dice(4); n > 0 && reader[strlen(reader) + 1]; n--)
				reader += strlen(reader) + 1;
			result = use(context, reader, progress);
			if (result == AGAIN)
				usleep(1000 * dice(20));
		}
		++*progress;
		SCardReleaseContext(context);
	}
}
