/* Preloaded into the cameras' programs: what they send by multicast does not come back to their own machine. In place of
 * buildroot-external/patches/systemd, which Debian's systemd-resolved has not got. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	static const int off = 0;

	if ((level == IPPROTO_IP && name == IP_MULTICAST_LOOP) || (level == IPPROTO_IPV6 && name == IPV6_MULTICAST_LOOP)) {
		value = &off;
		size = sizeof off;
	}
	return syscall(SYS_setsockopt, fd, level, name, value, size);
}
