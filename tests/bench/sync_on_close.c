/* Preloaded into vsftpd: what it received is on disk before it says so, which is after it closed the data connection. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

static int written = -1; /* the file of the present upload */

static int is_of_kind(int fd, mode_t kind)
{
	struct stat found;

	return fstat(fd, &found) == 0 && (found.st_mode & S_IFMT) == kind;
}

ssize_t write(int fd, const void *bytes, size_t count)
{
	ssize_t (*real)(int, const void *, size_t) = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");

	if (fd != written && is_of_kind(fd, S_IFREG))
		written = fd;
	return real(fd, bytes, count);
}

int close(int fd)
{
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");

	if (written >= 0 && (fd == written || is_of_kind(fd, S_IFSOCK))) {
		if (fsync(written))
			_exit(1);
		written = -1;
	}
	return real(fd);
}
