/* Preloaded into a server: a disk that takes DISK_DELAY_MS more for each flush, or with DISK_FAILS can't fsync(). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static int flush(const char *name, int fd)
{
	const char *delay = getenv("DISK_DELAY_MS");
	long ms = delay ? atol(delay) : 0;
	struct timespec wait = { ms / 1000, ms % 1000 * 1000000 };
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);

	nanosleep(&wait, NULL);
	return real(fd);
}

int fsync(int fd)
{
	if (getenv("DISK_FAILS")) {
		errno = EIO;
		return -1;
	}
	return flush("fsync", fd);
}

int fdatasync(int fd)
{
	return flush("fdatasync", fd);
}
