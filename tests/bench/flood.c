/* Sends frames round and round for some time: flood DEVICE SECONDS < frames of 60 bytes each.

   Without a queue of its own (packet(7), PACKET_QDISC_BYPASS) each frame is forwarded before the next one is sent, so
   what comes out a second is one over what a packet costs. SECONDS 0: each frame once. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 60, MOST = 65536, AT_ONCE = 64 };

static char frames[MOST][SIZE];
static struct mmsghdr messages[AT_ONCE];
static struct iovec parts[AT_ONCE];

static double now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static int die(const char *what)
{
	perror(what);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	size_t count = fread(frames, SIZE, MOST, stdin);
	int out = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
	if (count == 0 || out < 0 || bind(out, (struct sockaddr *)&to, sizeof to) < 0)
		return die(argv[1]);
	if (setsockopt(out, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) < 0)
		return die("PACKET_QDISC_BYPASS");
	double began = now(), until = began + atof(argv[2]);
	size_t next = 0, sent = 0;
	do {
		int some = 0;
		for (; some < AT_ONCE && (until > began || sent + some < count); some++) {
			parts[some] = (struct iovec){frames[next], SIZE};
			messages[some].msg_hdr = (struct msghdr){.msg_iov = &parts[some], .msg_iovlen = 1};
			next = (next + 1) % count;
		}
		int done = sendmmsg(out, messages, some, 0);
		if (done < 0)
			return die("sendmmsg");
		next = (next + count - (some - done) % count) % count;
		sent += done;
	} while (until > began ? now() < until : sent < count);
	printf("%zu %.6f\n", sent, now() - began);
	return 0;
}
