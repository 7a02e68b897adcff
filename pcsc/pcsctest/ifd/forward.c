/* An IFD handler that asks a test: with it Debian's pcscd drives the same simulated readers as ours. The reader's device
 * name is PATH:NUMBER, PATH a socket. Each slot has two connections, one for calls and one for card movements; each begins
 * with the reader's number, the slot's and the kind of the connection. A call is {length, function, argument, data},
 * its answer {length, code, data}; numbers have 32 bits, length counts data. See ifd.go. */
#include <errno.h>
#include <ifdhandler.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { POWER = 1, TRANSMIT, CONTROL, PRESENCE, GET, SET, PROTOCOL, SLOTS };
enum { MAX_READERS = 16, MAX_SLOTS = 16, TAG_WAIT = 0x0FB3, TAG_STOP_WAIT = 0x0FB2 };

struct slot {
	pthread_mutex_t lock;
	int calls, events, stop; /* descriptors; 0 is none */
};

static struct slot slots[MAX_READERS][MAX_SLOTS];
static char paths[MAX_READERS][108];
static unsigned numbers[MAX_READERS];

static struct slot *slotOf(DWORD lun)
{
	unsigned reader = lun >> 16 & 0xFFFF, slot = lun & 0xFFFF;
	return reader < MAX_READERS && slot < MAX_SLOTS ? &slots[reader][slot] : NULL;
}

static int sendAll(int fd, const void *data, size_t n)
{
	const char *p = data;
	while (n > 0) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return -1;
		p += sent;
		n -= sent;
	}
	return 0;
}

static int receiveAll(int fd, void *data, size_t n)
{
	char *p = data;
	while (n > 0) {
		ssize_t got = recv(fd, p, n, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -1;
		p += got;
		n -= got;
	}
	return 0;
}

static int dial(DWORD lun, uint32_t kind)
{
	unsigned reader = lun >> 16 & 0xFFFF;
	uint32_t hello[3] = {numbers[reader], lun & 0xFFFF, kind};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	snprintf(address.sun_path, sizeof address.sun_path, "%s", paths[reader]);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) || sendAll(fd, hello, sizeof hello)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* call asks the test. *length is the room for out and then what came. */
static RESPONSECODE call(DWORD lun, uint32_t function, uint32_t argument, const void *in, DWORD inLength, PUCHAR out, PDWORD length)
{
	struct slot *s = slotOf(lun);
	uint32_t request[3] = {inLength, function, argument}, answer[2];
	DWORD room = length ? *length : 0;
	RESPONSECODE code = IFD_NO_SUCH_DEVICE;
	if (length)
		*length = 0;
	if (!s || s->calls <= 0)
		return code;
	pthread_mutex_lock(&s->lock);
	if (!sendAll(s->calls, request, sizeof request) && !sendAll(s->calls, in, inLength) &&
		!receiveAll(s->calls, answer, sizeof answer)) {
		char *data = malloc(answer[0] + 1);
		if (data && !receiveAll(s->calls, data, answer[0])) {
			code = answer[1];
			if (answer[0] > room) {
				if (length && code == IFD_SUCCESS)
					code = IFD_ERROR_INSUFFICIENT_BUFFER;
			} else if (answer[0] > 0) {
				memcpy(out, data, answer[0]);
				*length = answer[0];
			}
		}
		free(data);
	}
	pthread_mutex_unlock(&s->lock);
	return code;
}

RESPONSECODE IFDHCreateChannelByName(DWORD lun, LPSTR name)
{
	struct slot *s = slotOf(lun);
	unsigned reader = lun >> 16 & 0xFFFF;
	char *colon = strrchr(name, ':');
	if (!s || !colon || (size_t)(colon - name) >= sizeof paths[0])
		return IFD_COMMUNICATION_ERROR;
	snprintf(paths[reader], sizeof paths[0], "%.*s", (int)(colon - name), name);
	numbers[reader] = atoi(colon + 1);
	pthread_mutex_init(&s->lock, NULL);
	s->calls = dial(lun, 0);
	s->events = dial(lun, 1);
	s->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->calls < 0 || s->events < 0 ? IFD_COMMUNICATION_ERROR : IFD_SUCCESS;
}

RESPONSECODE IFDHCreateChannel(DWORD lun, DWORD channel)
{
	(void)lun;
	(void)channel;
	return IFD_COMMUNICATION_ERROR;
}

RESPONSECODE IFDHCloseChannel(DWORD lun)
{
	struct slot *s = slotOf(lun);
	if (!s)
		return IFD_COMMUNICATION_ERROR;
	close(s->calls);
	close(s->events);
	close(s->stop);
	s->calls = s->events = s->stop = 0;
	return IFD_SUCCESS;
}

/* waitForCard ends at a movement, after the time, or when it is stopped. */
static RESPONSECODE waitForCard(DWORD lun, int milliseconds)
{
	struct slot *s = slotOf(lun);
	char bytes[64];
	struct pollfd both[2];
	if (!s)
		return IFD_COMMUNICATION_ERROR;
	both[0] = (struct pollfd){.fd = s->events, .events = POLLIN};
	both[1] = (struct pollfd){.fd = s->stop, .events = POLLIN};
	poll(both, 2, milliseconds);
	if (both[0].revents && recv(s->events, bytes, sizeof bytes, MSG_DONTWAIT) == 0)
		return IFD_NO_SUCH_DEVICE;
	if (both[1].revents && read(s->stop, bytes, 8) < 0)
		return IFD_COMMUNICATION_ERROR;
	return IFD_SUCCESS;
}

static RESPONSECODE stopWaiting(DWORD lun)
{
	struct slot *s = slotOf(lun);
	uint64_t one = 1;
	return s && write(s->stop, &one, sizeof one) == sizeof one ? IFD_SUCCESS : IFD_COMMUNICATION_ERROR;
}

RESPONSECODE IFDHGetCapabilities(DWORD lun, DWORD tag, PDWORD length, PUCHAR value)
{
	void *function = NULL;
	switch (tag) {
	case TAG_IFD_SIMULTANEOUS_ACCESS:
		value[0] = MAX_READERS;
		*length = 1;
		return IFD_SUCCESS;
	case TAG_IFD_THREAD_SAFE:
	case TAG_IFD_SLOT_THREAD_SAFE:
		value[0] = 1;
		*length = 1;
		return IFD_SUCCESS;
	case TAG_IFD_SLOTS_NUMBER:
		return call(lun, SLOTS, 0, NULL, 0, value, length);
	case TAG_WAIT:
		function = (void *)waitForCard;
		break;
	case TAG_STOP_WAIT:
		function = (void *)stopWaiting;
		break;
	default: {
		DWORD room = *length;
		RESPONSECODE code = call(lun, GET, tag, NULL, 0, value, &room);
		if (code == IFD_SUCCESS) /* else it stays what it was, as with libccid */
			*length = room;
		return code;
	}
	}
	if (*length < sizeof function)
		return IFD_ERROR_INSUFFICIENT_BUFFER;
	memcpy(value, &function, sizeof function);
	*length = sizeof function;
	return IFD_SUCCESS;
}

RESPONSECODE IFDHSetCapabilities(DWORD lun, DWORD tag, DWORD length, PUCHAR value)
{
	return call(lun, SET, tag, value, length, NULL, NULL);
}

RESPONSECODE IFDHSetProtocolParameters(DWORD lun, DWORD protocol, UCHAR flags, UCHAR p1, UCHAR p2, UCHAR p3)
{
	(void)flags;
	(void)p1;
	(void)p2;
	(void)p3;
	return call(lun, PROTOCOL, protocol, NULL, 0, NULL, NULL);
}

RESPONSECODE IFDHPowerICC(DWORD lun, DWORD action, PUCHAR atr, PDWORD length)
{
	*length = MAX_ATR_SIZE;
	return call(lun, POWER, action, NULL, 0, atr, length);
}

/* In the protocol T=0 is 1 and T=1 is 2; here T=0 is 0 and T=1 is 1. */
RESPONSECODE IFDHTransmitToICC(DWORD lun, SCARD_IO_HEADER to, PUCHAR tx, DWORD txLength, PUCHAR rx, PDWORD rxLength, PSCARD_IO_HEADER from)
{
	(void)from;
	return call(lun, TRANSMIT, to.Protocol < 2 ? to.Protocol + 1 : to.Protocol, tx, txLength, rx, rxLength);
}

RESPONSECODE IFDHControl(DWORD lun, DWORD code, PUCHAR tx, DWORD txLength, PUCHAR rx, DWORD rxLength, LPDWORD returned)
{
	*returned = rxLength;
	return call(lun, CONTROL, code, tx, txLength, rx, returned);
}

RESPONSECODE IFDHICCPresence(DWORD lun)
{
	return call(lun, PRESENCE, 0, NULL, 0, NULL, NULL);
}
