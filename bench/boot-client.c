/* Simulates machines that boot at once. Each sends the recorded requests of a boot, one after the other,
 * without any pause.
 *
 *     boot-client REQUESTS SERVER BRIDGE MOUNTED MACHINES [FIRST]
 *
 * FIRST is the number of the first machine (1). With it, machines may have booted before, and their roots have
 * what they wrote then. So calls may have other results than in the record.
 * REQUESTS is as boot-requests.txt, but each boot file has its protocol: "tftp BLOCK-SIZE BYTES FILE" or
 * "http BYTES FILE". Every machine is a process in its own network namespace, with a card on the bridge. MOUNTED is the
 * path to mount; "%d" in it is the number of the machine. Prints a line for each machine with the
 * seconds until it had an address, until it had its boot files, and until it was up. Then prints the
 * processor time of all machines.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LINES = 4096, MAX_HANDLES = 1024, MAX_MESSAGE = 2 << 20, HEADER = 64 };
enum { DHCP_OPTIONS = 240, RPC_MAPPER = 100000, RPC_NFS = 100003, RPC_MOUNT = 100005, NFS_EXISTS = 17 };

static const char *const procedures[] = {
	"NULL", "GETATTR", "SETATTR", "LOOKUP", "ACCESS", "READLINK", "READ", "WRITE", "CREATE", "MKDIR",
	"SYMLINK", "MKNOD", "REMOVE", "RMDIR", "RENAME", "LINK", "READDIR", "READDIRPLUS", "FSSTAT", "FSINFO",
	"PATHCONF", "COMMIT",
};

struct handle {
	uint32_t length;
	uint8_t bytes[64];
};

/* The machine of this process. */
static int machine;
static int may_boot_again;
static struct in_addr server;
static struct handle handles[MAX_HANDLES];
static uint8_t message[MAX_MESSAGE];
static uint32_t xid;

static void die(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fprintf(stderr, "machine %d: ", machine);
	vfprintf(stderr, format, arguments);
	fprintf(stderr, " (%s)\n", strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void wait_at_most(int descriptor, double seconds)
{
	struct timeval limit = { (time_t)seconds, (suseconds_t)((seconds - (time_t)seconds) * 1e6) };
	if (setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		die("SO_RCVTIMEO");
}

static struct sockaddr_in at_server(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = server };
}

/* --- the card ------------------------------------------------------------------------------------ */

static void change_card(const char *name, unsigned long request, struct in_addr address, short flags)
{
	struct ifreq change = { 0 };
	struct sockaddr_in value = { .sin_family = AF_INET, .sin_addr = address };
	int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
	strcpy(change.ifr_name, name);
	if (request == SIOCSIFFLAGS)
		change.ifr_flags = flags;
	else
		memcpy(&change.ifr_addr, &value, sizeof(value));
	if (ioctl(descriptor, request, &change))
		die("changing %s", name);
	close(descriptor);
}

static void set_address(uint32_t address)
{
	change_card("eth0", SIOCSIFADDR, (struct in_addr){ address }, 0);
	if (address)
		change_card("eth0", SIOCSIFNETMASK, (struct in_addr){ htonl(0xfffffc00) }, 0);
}

/* --- DHCP ---------------------------------------------------------------------------------------- */

static uint8_t *find_option(uint8_t *packet, size_t length, int wanted)
{
	for (size_t at = DHCP_OPTIONS; at + 1 < length && packet[at] != 255; at += 2 + packet[at + 1])
		if (packet[at] == wanted)
			return packet + at + 2;
	return NULL;
}

/* Writes the last two bytes of the hardware address, as on the card. */
static void put_machine(uint8_t *bytes)
{
	bytes[0] = 1 + (machine >> 8);
	bytes[1] = machine;
}

/* Sends a recorded packet with the address of this machine until the answer comes, into `packet`. */
static size_t ask_dhcp(const char *hex, uint8_t *packet, uint32_t address, uint32_t from)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(68) };
	struct sockaddr_in everybody = here;
	uint8_t request[1024], *option;
	size_t length = strlen(hex) / 2;
	int yes = 1, descriptor = socket(AF_INET, SOCK_DGRAM, 0);

	for (size_t at = 0; at < length; at++)
		sscanf(hex + 2 * at, "%2hhx", request + at);
	*(uint32_t *)(request + 4) = htonl(machine << 8 | ++xid);
	/* Ask for a broadcast: the kernel would drop a reply to an address that the card does not have. */
	request[10] |= 0x80;
	put_machine(request + 32);
	if ((option = find_option(request, length, 61)))
		put_machine(option + 5);
	if ((option = find_option(request, length, 50)))
		memcpy(option, &address, 4);
	if ((option = find_option(request, length, 54)))
		memcpy(option, &from, 4);

	everybody.sin_port = htons(67);
	everybody.sin_addr.s_addr = INADDR_BROADCAST;
	if (setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5) ||
	    setsockopt(descriptor, SOL_SOCKET, SO_BROADCAST, &yes, sizeof(yes)) ||
	    bind(descriptor, (struct sockaddr *)&here, sizeof(here)))
		die("a socket for DHCP");
	for (double patience = 1; patience <= 32; patience *= 2) {
		double end = now() + patience, left;
		if (sendto(descriptor, request, length, 0, (struct sockaddr *)&everybody, sizeof(everybody)) < 0)
			die("sending DHCP");
		while ((left = end - now()) > 0.001) {
			wait_at_most(descriptor, left);
			ssize_t got = recv(descriptor, packet, 1024, 0);
			if (got > DHCP_OPTIONS && packet[0] == 2 && !memcmp(packet + 4, request + 4, 4)) {
				close(descriptor);
				return got;
			}
		}
	}
	die("DHCP was not answered");
	return 0;
}

/* @param lines a recorded DISCOVER, and the REQUEST that follows */
static void get_address(char *const *lines)
{
	uint8_t packet[1024];
	uint32_t address, from = 0;
	set_address(0);
	size_t length = ask_dhcp(lines[0] + 5, packet, 0, 0);
	uint8_t *option = find_option(packet, length, 54);
	memcpy(&address, packet + 16, 4);
	if (option)
		memcpy(&from, option, 4);
	length = ask_dhcp(lines[1] + 5, packet, address, from);
	option = find_option(packet, length, 53);
	if (!option || *option != 5)
		die("DHCP refused");
	set_address(address);
}

/* --- boot files ---------------------------------------------------------------------------------- */

static void fetch_by_tftp(const char *file, int block_size, long bytes)
{
	struct sockaddr_in peer = at_server(69);
	socklen_t peer_length = sizeof(peer);
	uint8_t reply[4 + 1500], packet[600] = { 0, 1 };
	long got = 0;
	uint16_t expected = 0;
	int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
	int length = 2 + sprintf((char *)packet + 2, "%s%coctet%cblksize%c%d%ctsize%c0", file, 0, 0, 0,
				 block_size, 0, 0) + 1;

	wait_at_most(descriptor, 1);
	for (int tries = 0; tries < 30;) {
		struct sockaddr_in sender;
		socklen_t sender_length = sizeof(sender);
		if (sendto(descriptor, packet, length, 0, (struct sockaddr *)&peer, peer_length) < 0)
			die("sending TFTP");
		ssize_t received = recvfrom(descriptor, reply, sizeof(reply), 0, (struct sockaddr *)&sender,
					    &sender_length);
		if (received < 4) {
			tries++;
			continue;
		}
		if (reply[1] == 5)
			die("TFTP of %s: %s", file, reply + 4);
		peer = sender;
		/* The server sent its options again, because the acknowledgment was late. */
		if (reply[1] == 6 && expected > 0)
			continue;
		if (reply[1] == 3) {
			if (ntohs(*(uint16_t *)(reply + 2)) != expected)
				continue;
			got += received - 4;
		}
		packet[1] = 4;
		*(uint16_t *)(packet + 2) = htons(expected++);
		length = 4;
		if (reply[1] == 3 && received - 4 < block_size) {
			sendto(descriptor, packet, length, 0, (struct sockaddr *)&peer, peer_length);
			break;
		}
	}
	if (got != bytes)
		die("TFTP of %s: %ld bytes came", file, got);
	close(descriptor);
}

static int connect_to(int port)
{
	struct sockaddr_in address = at_server(port);
	int yes = 1, descriptor = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	wait_at_most(descriptor, 60);
	if (connect(descriptor, (struct sockaddr *)&address, sizeof(address)))
		die("connecting to port %d", port);
	return descriptor;
}

static void fetch_by_http(const char *file, long bytes)
{
	int descriptor = connect_to(80);
	int length = sprintf((char *)message, "GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
			     file, inet_ntoa(server));
	long total = 0;
	ssize_t got;
	if (send(descriptor, message, length, 0) != length)
		die("sending HTTP");
	while ((got = recv(descriptor, message, MAX_MESSAGE, 0)) > 0) {
		if (total == 0 && memcmp(message, "HTTP/1.1 200", 12))
			die("HTTP of %s", file);
		total += got;
	}
	if (total < bytes)
		die("HTTP of %s: %ld bytes came", file, total);
	close(descriptor);
}

/* --- NFS ----------------------------------------------------------------------------------------- */

static uint32_t word_at(size_t at)
{
	uint32_t word;
	memcpy(&word, message + at, 4);
	return ntohl(word);
}

static size_t put_word(size_t at, uint32_t word)
{
	word = htonl(word);
	memcpy(message + at, &word, 4);
	return at + 4;
}

static size_t put_bytes(size_t at, const void *bytes, uint32_t length)
{
	at = put_word(at, length);
	memset(message + at + length, 0, 3);
	memcpy(message + at, bytes, length);
	return at + (length + 3) / 4 * 4;
}

/* Writes the header of a call. @returns the position of the arguments */
static size_t put_call(uint32_t program, uint32_t version, uint32_t procedure)
{
	const uint32_t words[] = {
		/* the mark, a call of RPC version 2, AUTH_SYS of root without a name or groups, no verifier */
		0, machine << 16 | ++xid, 0, 2, program, version, procedure, 1, 20, 0, 0, 0, 0, 0, 0, 0,
	};
	for (size_t index = 0; index < sizeof(words) / 4; index++)
		put_word(4 * index, words[index]);
	return HEADER;
}

static void receive(int descriptor, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t got = recv(descriptor, message + at, length - at, 0);
		if (got <= 0)
			die("waiting for a reply");
		at += got;
	}
}

/* Sends the call that ends at `end`. @returns the position of the results in the reply */
static size_t call(int descriptor, size_t end)
{
	put_word(0, 0x80000000 | (end - 4));
	for (size_t at = 0; at < end;) {
		ssize_t sent = send(descriptor, message + at, end - at, 0);
		if (sent < 0)
			die("sending a call");
		at += sent;
	}
	receive(descriptor, 4);
	uint32_t length = word_at(0) & 0x7fffffff;
	if (length < 24 || length > MAX_MESSAGE)
		die("a reply of %u bytes", length);
	receive(descriptor, length);
	if (word_at(8) != 0 || word_at(20) != 0)
		die("a call failed");
	return 24;
}

static int port_of(uint32_t program)
{
	int descriptor = connect_to(111);
	size_t at = put_call(RPC_MAPPER, 2, 3);
	for (int index = 0; index < 4; index++)
		at = put_word(at, ((uint32_t[]){ program, 3, IPPROTO_TCP, 0 })[index]);
	int port = word_at(call(descriptor, at));
	close(descriptor);
	return port;
}

static void keep_handle(const char *name, size_t at)
{
	struct handle *handle = &handles[atoi(name + 1)];
	handle->length = word_at(at);
	memcpy(handle->bytes, message + at + 4, sizeof(handle->bytes));
}

static int mount_root(const char *mounted)
{
	char path[256];
	snprintf(path, sizeof(path), mounted, machine);
	int nfs = port_of(RPC_NFS);
	int descriptor = connect_to(port_of(RPC_MOUNT));
	size_t at = call(descriptor, put_bytes(put_call(RPC_MOUNT, 3, 1), path, strlen(path)));
	if (word_at(at) != 0)
		die("MOUNT of %s: %u", path, word_at(at));
	keep_handle("@0", at + 4);
	close(descriptor);
	return connect_to(nfs);
}

/* Writes the value of an argument. */
static size_t put_argument(size_t at, const char *argument)
{
	const struct handle *handle;
	switch (argument[0]) {
	case '@':
		handle = &handles[atoi(argument + 1)];
		if (handle->length == 0)
			die("the handle of %s is not known", argument);
		return put_bytes(at, handle->bytes, handle->length);
	case '"':
		return put_bytes(at, argument + 1, strlen(argument + 1));
	case '*':
		/* The content does not matter: leave the bytes as they are. */
		at = put_word(at, atoi(argument + 1));
		return at + (atoi(argument + 1) + 3) / 4 * 4;
	default:
		return put_word(at, strtoul(argument, NULL, 10));
	}
}

static int is_known(const char *line)
{
	for (const char *at = line; (at = strstr(at, " @")); at += 2)
		if (handles[atoi(at + 2)].length == 0)
			return 0;
	return 1;
}

static int is(uint32_t procedure, const char *name)
{
	return !strcmp(procedures[procedure], name);
}

static void replay(int descriptor, const char *line)
{
	char words[1024], *rest = words;
	uint32_t procedure = 0, status;
	strcpy(words, line);
	strsep(&rest, " ");
	const char *name = strsep(&rest, " ");
	uint32_t expected = atoi(strsep(&rest, " "));
	const char *result = strsep(&rest, " ");
	if (may_boot_again && !is_known(line + (rest - words) - 1))
		return;
	while (!is(procedure, name))
		procedure++;
	int makes = is(procedure, "CREATE") || is(procedure, "MKDIR") || is(procedure, "SYMLINK");
	const char *arguments[2] = { 0 };
	size_t at = put_call(RPC_NFS, 3, procedure);
	for (int index = 0; rest; index++) {
		const char *argument = strsep(&rest, " ");
		if (index < 2)
			arguments[index] = argument;
		at = put_argument(at, argument);
	}
	at = call(descriptor, at);
	status = word_at(at);
	if (may_boot_again && makes && status == NFS_EXISTS) {
		procedure = 3;
		at = put_argument(put_argument(put_call(RPC_NFS, 3, procedure), arguments[0]), arguments[1]);
		at = call(descriptor, at);
		status = word_at(at);
	}
	if (status != expected && !may_boot_again)
		die("%s: %u", line, status);
	if (result[0] == '@' && status == 0)
		/* In results of CREATE and the like, a flag before the handle tells that there is one. */
		keep_handle(result, at + (procedure == 3 ? 4 : 8));
}

/* --- machines ------------------------------------------------------------------------------------ */

static char *lines[MAX_LINES];

static void read_requests(const char *file)
{
	char line[4096];
	int count = 0;
	FILE *stream = fopen(file, "r");
	if (!stream)
		die("%s", file);
	while (fgets(line, sizeof(line), stream) && count < MAX_LINES - 1) {
		line[strcspn(line, "\n")] = 0;
		if (strchr("dthc", line[0]))
			lines[count++] = strdup(line);
	}
	fclose(stream);
}

static void boot(const char *mounted, double started)
{
	double has_address = 0, has_files = 0;
	int descriptor = -1, block_size;
	long bytes;
	char file[256];
	for (char **line = lines; *line; line++) {
		if (line[0][0] == 'd') {
			get_address(line++);
			if (has_address == 0)
				has_address = now() - started;
		} else if (sscanf(*line, "tftp %d %ld %255s", &block_size, &bytes, file) == 3) {
			fetch_by_tftp(file, block_size, bytes);
			has_files = now() - started;
		} else if (sscanf(*line, "http %ld %255s", &bytes, file) == 2) {
			fetch_by_http(file, bytes);
			has_files = now() - started;
		} else {
			if (descriptor < 0)
				descriptor = mount_root(mounted);
			replay(descriptor, *line);
		}
	}
	printf("machine %.3f %.3f %.3f\n", has_address, has_files, now() - started);
}

/* Runs a machine in its own namespace: waits for its card, then for all other machines. */
static void be_machine(int ready, int card, int start, const char *mounted)
{
	double started;
	char byte;
	int settings;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || unshare(CLONE_NEWNET))
		die("a network namespace");
	settings = open("/proc/sys/net/ipv6/conf/all/disable_ipv6", O_WRONLY);
	if (write(settings, "1", 1) < 0 || write(ready, "", 1) < 0 || read(card, &byte, 1) < 1)
		die("getting ready");
	change_card("lo", SIOCSIFFLAGS, (struct in_addr){ 0 }, IFF_UP);
	change_card("eth0", SIOCSIFFLAGS, (struct in_addr){ 0 }, IFF_UP);
	if (write(ready, "", 1) < 0 || read(start, &started, sizeof(started)) < (ssize_t)sizeof(started))
		die("starting");
	boot(mounted, started);
	exit(0);
}

int main(int count, char **arguments)
{
	int ready[2], cards[2], start[2], status, failed = 0;
	struct rusage used;
	char byte;

	if (count < 6 || count > 7 || !inet_aton(arguments[2], &server) || pipe(ready) ||
	    pipe(cards) || pipe(start))
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* If a machine fails before it is ready, all others would wait forever. */
	int machines = atoi(arguments[5]);
	alarm(60 + 4 * machines);
	read_requests(arguments[1]);
	int first = count == 7 ? atoi(arguments[6]) : 1;
	may_boot_again = count == 7;
	pid_t children[machines];
	for (machine = first; machine < first + machines; machine++) {
		children[machine - first] = fork();
		if (children[machine - first] == 0)
			be_machine(ready[1], cards[0], start[0], arguments[4]);
	}
	machine = 0;
	for (int index = 0; index < machines; index++)
		if (read(ready[0], &byte, 1) < 1)
			die("waiting for machines");

	FILE *links = popen("ip -batch -", "w");
	for (int number = first; number < first + machines; number++)
		fprintf(links,
			"link add m%d type veth peer name eth0 address 02:00:00:00:%02x:%02x netns %d\n"
			"link set m%d addrgenmode none\n"
			"link set m%d master %s up\n",
			number, 1 + (number >> 8), number & 255, children[number - first], number, number,
			arguments[3]);
	/* Without this, the bridge takes the hardware address of a machine, and changes when it ends. */
	fprintf(links, "link set %s address 52:54:00:ff:00:01\n", arguments[3]);
	if (pclose(links))
		die("making cards");
	for (int index = 0; index < machines; index++)
		if (write(cards[1], "", 1) < 0)
			die("getting ready");
	for (int index = 0; index < machines; index++)
		if (read(ready[0], &byte, 1) < 1)
			die("waiting for cards");
	/* Give the bridge time to learn the cards. */
	sleep(2);
	double started = now();
	for (int index = 0; index < machines; index++)
		if (write(start[1], &started, sizeof(started)) < 0)
			die("starting");
	for (int index = 0; index < machines; index++) {
		wait(&status);
		failed |= status;
	}
	getrusage(RUSAGE_CHILDREN, &used);
	printf("processor %.3f\n", used.ru_utime.tv_sec + used.ru_stime.tv_sec +
	       (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
	return failed ? 1 : 0;
}
