/* An IFD handler whose card answers at once: what is measured is then the daemon and libpcsclite alone. The first bytes
 * of a command after CLA are the length of the answer, 24 bits. The card is always there; events come by polling. */
#include <ifdhandler.h>
#include <string.h>

static const unsigned char atr[] = {0x3B, 0x80, 0x80, 0x01, 0x01};

RESPONSECODE IFDHCreateChannelByName(DWORD lun, LPSTR name) { (void)lun; (void)name; return IFD_SUCCESS; }
RESPONSECODE IFDHCreateChannel(DWORD lun, DWORD channel) { (void)lun; (void)channel; return IFD_SUCCESS; }
RESPONSECODE IFDHCloseChannel(DWORD lun) { (void)lun; return IFD_SUCCESS; }

RESPONSECODE IFDHGetCapabilities(DWORD lun, DWORD tag, PDWORD length, PUCHAR value)
{
	(void)lun;
	switch (tag) {
	case TAG_IFD_ATR:
		memcpy(value, atr, sizeof atr);
		*length = sizeof atr;
		return IFD_SUCCESS;
	case TAG_IFD_SIMULTANEOUS_ACCESS:
		value[0] = 16;
		break;
	case TAG_IFD_THREAD_SAFE:
	case TAG_IFD_SLOTS_NUMBER:
		value[0] = 1;
		break;
	default:
		return IFD_ERROR_TAG;
	}
	*length = 1;
	return IFD_SUCCESS;
}

RESPONSECODE IFDHSetCapabilities(DWORD lun, DWORD tag, DWORD length, PUCHAR value)
{
	(void)lun; (void)tag; (void)length; (void)value;
	return IFD_ERROR_TAG;
}

RESPONSECODE IFDHSetProtocolParameters(DWORD lun, DWORD protocol, UCHAR flags, UCHAR p1, UCHAR p2, UCHAR p3)
{
	(void)lun; (void)protocol; (void)flags; (void)p1; (void)p2; (void)p3;
	return IFD_SUCCESS;
}

RESPONSECODE IFDHPowerICC(DWORD lun, DWORD action, PUCHAR out, PDWORD length)
{
	(void)lun;
	if (action == IFD_POWER_DOWN) {
		*length = 0;
		return IFD_SUCCESS;
	}
	memcpy(out, atr, sizeof atr);
	*length = sizeof atr;
	return IFD_SUCCESS;
}

RESPONSECODE IFDHTransmitToICC(DWORD lun, SCARD_IO_HEADER send, PUCHAR tx, DWORD txLength, PUCHAR rx, PDWORD rxLength,
	PSCARD_IO_HEADER receive)
{
	DWORD n = 2;
	(void)lun; (void)send; (void)receive;
	if (txLength >= 4)
		n = (DWORD)tx[1] << 16 | (DWORD)tx[2] << 8 | tx[3];
	if (n < 2 || n > 65538)
		n = 2;
	if (n > *rxLength) {
		*rxLength = 0;
		return IFD_COMMUNICATION_ERROR;
	}
	rx[n - 2] = 0x90;
	rx[n - 1] = 0x00;
	*rxLength = n;
	return IFD_SUCCESS;
}

RESPONSECODE IFDHControl(DWORD lun, DWORD code, PUCHAR tx, DWORD txLength, PUCHAR rx, DWORD rxLength, LPDWORD returned)
{
	(void)lun; (void)code; (void)tx; (void)txLength; (void)rx; (void)rxLength;
	*returned = 0;
	return IFD_ERROR_NOT_SUPPORTED;
}

RESPONSECODE IFDHICCPresence(DWORD lun) { (void)lun; return IFD_SUCCESS; }
