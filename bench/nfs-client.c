/* A client that asks an NFS server for much, by libnfs, and prints how fast it answered.
 *
 *     nfs-client URL FILE DIRECTORY
 *
 * The paths are below the export. A line each: the name of a measurement, and its value a second.
 */
#include <sys/time.h>

#include <nfsc/libnfs.h>

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MEGABYTE = 1 << 20 };

static struct nfs_context *nfs;
static struct nfsfh *file;
static const char *file_path;
static uint64_t file_size;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, nfs_get_error(nfs));
	exit(1);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void print(const char *name, double amount, double started)
{
	printf("%s %.3f\n", name, amount / (now() - started));
	fflush(stdout);
}

/* Requests of one kind, so many of which are always on their way. */
struct flight {
	void (*send)(struct flight *);
	long sent, done, total;
	uint64_t bytes_each;
	double bytes;
};

static void answered(int status, struct nfs_context *context, void *data, void *private)
{
	struct flight *flight = private;
	(void)context;
	(void)data;
	if (status < 0)
		fail("request");
	flight->bytes += status;
	flight->done++;
	if (flight->sent < flight->total)
		flight->send(flight);
}

static void send_read(struct flight *flight)
{
	uint64_t offset = flight->sent++ * flight->bytes_each % file_size;
	if (nfs_pread_async(nfs, file, offset, flight->bytes_each, answered, flight))
		fail("read");
}

static void send_stat(struct flight *flight)
{
	flight->sent++;
	if (nfs_stat64_async(nfs, file_path, answered, flight))
		fail("stat");
}

static void fly(struct flight *flight, int at_once)
{
	while (at_once-- > 0)
		flight->send(flight);
	while (flight->done < flight->total) {
		struct pollfd poller = { nfs_get_fd(nfs), nfs_which_events(nfs), 0 };
		if (poll(&poller, 1, 10000) <= 0 || nfs_service(nfs, poller.revents) < 0)
			fail("waiting");
	}
}

static void measure_reads(const char *name, uint64_t bytes_each, int at_once)
{
	struct flight flight = { send_read, 0, 0, 2 * file_size / bytes_each, bytes_each, 0 };
	double started = now();
	fly(&flight, at_once);
	print(name, flight.bytes / 1e6, started);
}

static void measure_stats(const char *name, long total, int at_once)
{
	struct flight flight = { send_stat, 0, 0, total, 0, 0 };
	double started = now();
	fly(&flight, at_once);
	print(name, total, started);
}

static void measure_attributes(const char *name, long total)
{
	struct nfs_stat_64 attributes;
	double started = now();
	for (long count = 0; count < total; count++)
		if (nfs_fstat64(nfs, file, &attributes))
			fail("getattr");
	print(name, total, started);
}

static void measure_listing(const char *name, const char *directory, int rounds)
{
	long entries = 0;
	double started = now();
	for (int round = 0; round < rounds; round++) {
		struct nfsdir *listing;
		if (nfs_opendir(nfs, directory, &listing))
			fail("opendir");
		while (nfs_readdir(nfs, listing))
			entries++;
		nfs_closedir(nfs, listing);
	}
	print(name, entries, started);
}

int main(int count, char **arguments)
{
	struct nfs_stat_64 attributes;
	struct nfs_url *url;

	if (count != 4)
		return 2;
	nfs = nfs_init_context();
	/* Else it answers listings from its memory. */
	nfs_set_dircache(nfs, 0);
	url = nfs_parse_url_dir(nfs, arguments[1]);
	if (!url || nfs_mount(nfs, url->server, url->path))
		fail("mount");
	file_path = arguments[2];
	if (nfs_stat64(nfs, file_path, &attributes) || nfs_open(nfs, file_path, O_RDONLY, &file))
		fail("open");
	file_size = attributes.nfs_size;

	measure_reads("read-64k", 65536, 1);
	measure_reads("read-64k-16", 65536, 16);
	measure_reads("read-1m", MEGABYTE, 1);
	measure_attributes("getattr", 5000);
	measure_stats("stat", 3000, 1);
	measure_stats("stat-16", 20000, 16);
	measure_listing("readdirplus", arguments[3], 20);
	return 0;
}
