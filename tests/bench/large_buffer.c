/* setsockopt(2) that may exceed net.core.rmem_max, as our collector does: preloaded into nfcapd, so that neither loses
 * datagrams for want of a buffer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/socket.h>

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
	int (*real)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");

	if (level == SOL_SOCKET && name == SO_RCVBUF && real(fd, level, SO_RCVBUFFORCE, value, length) == 0)
		return 0;
	return real(fd, level, name, value, length);
}
