/* Sends many requests to an NFS server, by libnfs, and prints how fast the server answered.
 *
 *     nfs-client URL MEASUREMENT
 *
 * The export has a large "/file", a "/directory" with many small files, and a "/tree" to walk. Each
 * line of the output has the value per second, and how many requests or entries there were.
 */
#include <sys/stat.h>
#include <sys/time.h>

#include <nfsc/libnfs.h>

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MEGABYTE = 1 << 20 };

static struct nfs_context *nfs;
static struct nfsfh *file;
static const char file_path[] = "/file";
static uint64_t file_size;
/* The directory for all files that this run creates. */
static char own_directory[64];

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

static void print(double amount, double started)
{
	printf("%.3f %.0f\n", amount / (now() - started), amount);
	fflush(stdout);
}

/* Requests of one kind; a fixed number of them is always under way. */
struct flight {
	void (*send)(struct flight *);
	long total;
	uint64_t bytes_each;
	long sent, done;
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

static void send_write(struct flight *flight)
{
	static char block[BLOCK];
	if (nfs_pwrite_async(nfs, file, flight->sent++ * BLOCK, BLOCK, block, answered, flight))
		fail("write");
}

static void send_creation(struct flight *flight)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%p-%ld", own_directory, (void *)flight, flight->sent++);
	/* The files are left open: NFSv3 has no request to close a file. */
	if (nfs_creat_async(nfs, path, 0644, answered, flight))
		fail("creation");
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

static void measure_reads(uint64_t bytes_each, int at_once)
{
	struct flight flight = { send_read, 2 * file_size / bytes_each, bytes_each, 0, 0, 0 };
	double started = now();
	fly(&flight, at_once);
	print(flight.bytes / 1e6, started);
}

static void measure_calls(void (*send)(struct flight *), long total, int at_once)
{
	struct flight flight = { send, total, 0, 0, 0, 0 };
	double started = now();
	fly(&flight, at_once);
	print(total, started);
}

static void measure_attributes(long total)
{
	struct nfs_stat_64 attributes;
	double started = now();
	for (long count = 0; count < total; count++)
		if (nfs_fstat64(nfs, file, &attributes))
			fail("getattr");
	print(total, started);
}

static void measure_listing(const char *directory, int rounds)
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
	print(entries, started);
}

static void open_for_reading(void)
{
	struct nfs_stat_64 attributes;
	if (nfs_stat64(nfs, file_path, &attributes) || nfs_open(nfs, file_path, O_RDONLY, &file))
		fail("open");
	file_size = attributes.nfs_size;
}

/* @param flags if they have O_SYNC, each write is FILE_SYNC, otherwise UNSTABLE */
static void make_file(int flags)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/file", own_directory);
	if (nfs_creat(nfs, path, 0644, &file) || nfs_close(nfs, file))
		fail("creation");
	if (nfs_open(nfs, path, O_RDWR | flags, &file))
		fail("open");
}

static void make_directory(void)
{
	snprintf(own_directory, sizeof(own_directory), "/%d-%ld", getpid(), (long)time(NULL));
	if (nfs_mkdir(nfs, own_directory))
		fail("mkdir");
}

static void measure_commit(void)
{
	double started = now();
	struct flight flight = { send_write, 8192, 0, 0, 0, 0 };
	fly(&flight, 16);
	if (nfs_fsync(nfs, file))
		fail("commit");
	print(flight.total, started);
}

static void read_64k(void) { measure_reads(65536, 1); }
static void read_64k_16(void) { measure_reads(65536, 16); }
static void read_1m(void) { measure_reads(MEGABYTE, 1); }
static void getattr(void) { measure_attributes(5000); }
static void stat_path(void) { measure_calls(send_stat, 3000, 1); }
static void stat_path_16(void) { measure_calls(send_stat, 20000, 16); }
static void readdirplus(void) { measure_listing("/directory", 20); }
static void write_sync(void) { make_file(O_SYNC); measure_calls(send_write, 500, 1); }
static void write_sync_16(void) { make_file(O_SYNC); measure_calls(send_write, 2000, 16); }
static void write_commit(void) { make_file(0); measure_commit(); }
static void create(void) { measure_calls(send_creation, 500, 1); }
static void create_16(void) { measure_calls(send_creation, 2000, 16); }

/* Walks like "ls -lR": lists each directory, and looks up each name. */
static long walk(const char *path)
{
	struct nfsdir *listing;
	struct nfsdirent *entry;
	struct nfs_stat_64 attributes;
	char below[512];
	long nodes = 0;
	if (nfs_opendir(nfs, path, &listing))
		fail("opendir");
	while ((entry = nfs_readdir(nfs, listing))) {
		if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, entry->name);
		if (nfs_lstat64(nfs, below, &attributes))
			fail("lstat");
		nodes += 1 + (S_ISDIR(attributes.nfs_mode) ? walk(below) : 0);
	}
	nfs_closedir(nfs, listing);
	return nodes;
}

static void measure_walk(void)
{
	double started = now();
	long nodes = walk("/tree");
	print(nodes, started);
}

static const struct {
	const char *name;
	void (*prepare)(void);
	void (*measure)(void);
} measurements[] = {
	{ "read-64k", open_for_reading, read_64k },
	{ "read-64k-16", open_for_reading, read_64k_16 },
	{ "read-1m", open_for_reading, read_1m },
	{ "getattr", open_for_reading, getattr },
	{ "stat", NULL, stat_path },
	{ "stat-16", NULL, stat_path_16 },
	{ "readdirplus", NULL, readdirplus },
	{ "write-sync", make_directory, write_sync },
	{ "write-sync-16", make_directory, write_sync_16 },
	{ "write-commit", make_directory, write_commit },
	{ "create", make_directory, create },
	{ "create-16", make_directory, create_16 },
	{ "walk", NULL, measure_walk },
};

int main(int count, char **arguments)
{
	struct nfs_url *url;
	size_t number = 0, all = sizeof(measurements) / sizeof(measurements[0]);

	if (count != 3)
		return 2;
	while (number < all && strcmp(arguments[2], measurements[number].name) != 0)
		number++;
	if (number == all)
		return 2;
	nfs = nfs_init_context();
	/* Without this, libnfs answers listings from its cache. */
	nfs_set_dircache(nfs, 0);
	url = nfs_parse_url_dir(nfs, arguments[1]);
	if (!url || nfs_mount(nfs, url->server, url->path))
		fail("mount");
	if (measurements[number].prepare)
		measurements[number].prepare();
	measurements[number].measure();
	return 0;
}
