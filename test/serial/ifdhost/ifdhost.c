/* A program that uses an IFD handler as pcscd does, without pcscd: ifdhost LIBRARY DEVICENAME PROTOCOL [SLOT]. It
 * switches the card on, sets the protocol (1 is T=0, 2 is T=1), sends each line of standard input, an APDU in
 * hexadecimal, and prints the ATR and each answer the same way; a line "error N" is an error of the handler. */
#include <dlfcn.h>
#include <ifdhandler.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* pcscd has these, and handlers use them. */
void log_msg(const int priority, const char *fmt, ...) { (void)priority; (void)fmt; }
void log_xxd(const int priority, const char *msg, const unsigned char *buffer, const int size)
{
	(void)priority; (void)msg; (void)buffer; (void)size;
}

static void *library;

static void *function(const char *name)
{
	void *f = dlsym(library, name);
	if (f == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		exit(2);
	}
	return f;
}

static void print(const unsigned char *b, DWORD n)
{
	for (DWORD i = 0; i < n; i++)
		printf("%02X", b[i]);
	printf("\n");
	fflush(stdout);
}

static int check(const char *what, RESPONSECODE rc)
{
	if (rc != IFD_SUCCESS) {
		printf("error %ld\n", (long)rc);
		fprintf(stderr, "%s: %ld\n", what, (long)rc);
	}
	return rc == IFD_SUCCESS;
}

int main(int argc, char **argv)
{
	static char line[2 * 70000];
	static unsigned char command[70000], answer[70000];
	if (argc < 4 || (library = dlopen(argv[1], RTLD_NOW)) == NULL) {
		fprintf(stderr, "%s\n", argc < 4 ? "usage: ifdhost LIBRARY DEVICENAME PROTOCOL [SLOT]" : dlerror());
		return 2;
	}
	RESPONSECODE (*create)(DWORD, LPSTR) = function("IFDHCreateChannelByName");
	RESPONSECODE (*closing)(DWORD) = function("IFDHCloseChannel");
	RESPONSECODE (*power)(DWORD, DWORD, PUCHAR, PDWORD) = function("IFDHPowerICC");
	RESPONSECODE (*protocol)(DWORD, DWORD, UCHAR, UCHAR, UCHAR, UCHAR) = function("IFDHSetProtocolParameters");
	RESPONSECODE (*transmit)(DWORD, SCARD_IO_HEADER, PUCHAR, DWORD, PUCHAR, PDWORD, PSCARD_IO_HEADER) =
		function("IFDHTransmitToICC");
	DWORD number = strtoul(argv[3], NULL, 10), slots = argc > 4 ? strtoul(argv[4], NULL, 10) : 0, length = MAX_ATR_SIZE;

	for (DWORD slot = 0; slot <= slots; slot++)
		if (!check("create", create(slot, argv[2])))
			return 1;
	if (!check("power up", power(slots, IFD_POWER_UP, answer, &length)))
		return 1;
	print(answer, length);
	if (!check("protocol", protocol(slots, number, 0, 0, 0, 0)))
		return 1;
	while (fgets(line, sizeof line, stdin) != NULL) {
		DWORD n = 0;
		SCARD_IO_HEADER send = {number - 1, sizeof send}, receive = {0, 0};
		while (n < sizeof command && sscanf(line + 2 * n, "%2hhx", &command[n]) == 1)
			n++;
		length = sizeof answer;
		if (check("transmit", transmit(slots, send, command, n, answer, &length, &receive)))
			print(answer, length);
	}
	power(slots, IFD_POWER_DOWN, answer, &length);
	for (DWORD slot = 0; slot <= slots; slot++)
		closing(slot);
	return 0;
}
