/* Preloaded into a server: fsync() and fdatasync() fail below BAD_DISK while the file BAD_DISK_SWITCH is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int sync_by(const char *name, int fd)
{
	const char *below = getenv("BAD_DISK"), *wanted = getenv("BAD_DISK_SWITCH");
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
	char link[64], path[PATH_MAX];
	ssize_t length;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	length = readlink(link, path, sizeof path - 1);
	if (length > 0 && below && wanted && access(wanted, F_OK) == 0) {
		path[length] = 0;
		if (strncmp(path, below, strlen(below)) == 0) {
			errno = EIO;
			return -1;
		}
	}
	return real(fd);
}

int fsync(int fd)
{
	return sync_by("fsync", fd);
}

int fdatasync(int fd)
{
	return sync_by("fdatasync", fd);
}
