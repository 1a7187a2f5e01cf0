/* Preloaded into a server: a disk that takes DISK_DELAY_MS more for each flush, or with DISK_FAILS can't fsync();
   with DISK_FAILS_BELOW only what lies below that folder. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int flush(const char *name, int fd)
{
	const char *delay = getenv("DISK_DELAY_MS");
	long ms = delay ? atol(delay) : 0;
	struct timespec wait = { ms / 1000, ms % 1000 * 1000000 };
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);

	nanosleep(&wait, NULL);
	return real(fd);
}

static int fails(int fd)
{
	const char *below = getenv("DISK_FAILS_BELOW");
	char link[64], path[PATH_MAX];
	ssize_t length;

	if (!getenv("DISK_FAILS") || !below)
		return getenv("DISK_FAILS") != NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof(path));
	return length >= (ssize_t)strlen(below) && !strncmp(path, below, strlen(below));
}

int fsync(int fd)
{
	if (fails(fd)) {
		errno = EIO;
		return -1;
	}
	return flush("fsync", fd);
}

int fdatasync(int fd)
{
	if (getenv("DISK_FAILS_BELOW") && fails(fd)) {
		errno = EIO;
		return -1;
	}
	return flush("fdatasync", fd);
}
