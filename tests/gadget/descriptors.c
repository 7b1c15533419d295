/* descriptors BUS DEVICE: prints what Windows asks a new USB device for: the signature in string 0xEE, and the compatible and
 * sub-compatible ID of its first function (Microsoft OS descriptors 1.0). */
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

static int ask(int fd, unsigned type, unsigned request, unsigned value, unsigned index, unsigned char *data, unsigned size)
{
	struct usbdevfs_ctrltransfer transfer = { type, request, value, index, size, 1000, data };
	return ioctl(fd, USBDEVFS_CONTROL, &transfer);
}

int main(int count, char **arguments)
{
	unsigned char data[256] = { 0 };
	char path[64];
	int fd, i;

	if (count != 3)
		return 2;
	snprintf(path, sizeof path, "/dev/bus/usb/%03d/%03d", atoi(arguments[1]), atoi(arguments[2]));
	fd = open(path, O_RDWR);
	if (fd < 0 || ask(fd, 0x80, 6, 0x03ee, 0, data, 18) != 18)
		return 1;
	/* UTF-16; then the vendor's request that brings the rest. */
	for (i = 0; i < 7; i++)
		putchar(data[2 + 2 * i]);
	if (ask(fd, 0xc0, data[16], 0, 4, data, sizeof data) < 40)
		return 1;
	printf(" %.8s %.8s\n", data + 18, data + 26);
	return 0;
}
