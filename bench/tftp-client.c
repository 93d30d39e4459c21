/* Fetches a file by TFTP many times at once, and prints the seconds until the last one has it.
 *
 *     tftp-client ADDRESS FILE BYTES BLOCK-SIZE WINDOW-SIZE CLIENTS
 *
 * ADDRESS is an IPv4 address of the loopback interface; BYTES is the size of the file. Each client
 * has an address of its own, 127.1.0.1 and those that follow, because servers limit what one address
 * may have. A WINDOW-SIZE of 1 is not asked for. [RFC 1350, 2347, 2348, 7440]
 */
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { READ = 1, DATA = 3, ACK = 4, ERROR = 5, OACK = 6, HEADER = 4, MAX_BLOCK = 65464 };
/* Seconds for all clients. */
enum { LIMIT = 300 };

struct client {
	int socket;
	/* Whether the server has answered, so that its port is known. */
	int is_connected, is_done;
	/* The last block that came in order, how many came since the last acknowledgment, and how many
	 * come before the next one. */
	uint64_t block, since, window;
	uint64_t bytes;
	double heard;
};

static struct sockaddr_in server;
static unsigned char request[512];
static size_t request_bytes;
static uint64_t block_size, window_size, file_bytes, repeated;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void add_text(const char *text)
{
	size_t bytes = strlen(text) + 1;
	if (request_bytes + bytes > sizeof request) exit(1);
	memcpy(request + request_bytes, text, bytes);
	request_bytes += bytes;
}

static void ask(struct client *client)
{
	if (sendto(client->socket, request, request_bytes, 0, (void *)&server, sizeof server) < 0)
		fail("sendto");
}

static void acknowledge(struct client *client)
{
	unsigned char packet[] = { 0, ACK, client->block >> 8, client->block };
	client->since = 0;
	if (send(client->socket, packet, sizeof packet, 0) < 0) fail("send");
}

/* Whether one of the texts, each of which ends with a zero, is this one in any case of letters. */
static int has_text(const unsigned char *texts, size_t bytes, const char *text)
{
	const char *end = (const char *)texts + bytes;
	for (const char *next = (const char *)texts; next < end; next += strlen(next) + 1)
		if (strcasecmp(next, text) == 0) return 1;
	return 0;
}

static void received(struct client *client, const unsigned char *packet, size_t bytes)
{
	uint16_t word = packet[2] << 8 | packet[3];
	client->heard = now();
	if (bytes >= HEADER && packet[1] == ERROR) {
		fprintf(stderr, "the server says: %s\n", packet + HEADER);
		exit(1);
	}
	if (packet[1] == OACK) {
		if (has_text(packet + 2, bytes - 2, "windowsize")) client->window = window_size;
		acknowledge(client);
	} else if (packet[1] == DATA && word == (uint16_t)(client->block + 1)) {
		client->block++;
		client->bytes += bytes - HEADER;
		client->is_done = bytes - HEADER < block_size;
		if (client->is_done || ++client->since == client->window) acknowledge(client);
	} else {
		/* A block was lost, or the last acknowledgment. */
		repeated++;
		if (client->since > 0 || word == (uint16_t)client->block) acknowledge(client);
	}
}

/* Reads all packets that are there. */
static void receive(struct client *client)
{
	static unsigned char packet[HEADER + MAX_BLOCK + 1];
	struct sockaddr_in from;
	socklen_t length = sizeof from;
	while (!client->is_done) {
		ssize_t bytes = recvfrom(client->socket, packet, sizeof packet - 1, MSG_DONTWAIT,
			(void *)&from, &length);
		if (bytes < 0 && errno == EAGAIN) return;
		if (bytes < HEADER) fail("recvfrom");
		packet[bytes] = 0;
		if (!client->is_connected) {
			if (connect(client->socket, (void *)&from, length) < 0) fail("connect");
			client->is_connected = 1;
		}
		received(client, packet, bytes);
		if (client->window == 1) return;
	}
}

int main(int count, char **words)
{
	if (count != 7) return 2;
	server = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(69) };
	if (inet_pton(AF_INET, words[1], &server.sin_addr) != 1) return 2;
	file_bytes = strtoull(words[3], NULL, 10);
	block_size = strtoull(words[4], NULL, 10);
	window_size = strtoull(words[5], NULL, 10);
	int clients = atoi(words[6]);
	request[1] = READ;
	request_bytes = 2;
	add_text(words[2]);
	add_text("octet");
	if (block_size != 512) {
		add_text("blksize");
		add_text(words[4]);
	}
	if (window_size > 1) {
		add_text("windowsize");
		add_text(words[5]);
	}

	struct client *all = calloc(clients, sizeof *all);
	int waiting = epoll_create1(0), left = clients;
	double started = now();
	for (struct client *client = all; client < all + clients; client++) {
		client->socket = socket(AF_INET, SOCK_DGRAM, 0);
		int buffer = 1 << 20;
		setsockopt(client->socket, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = client };
		struct sockaddr_in own = { .sin_family = AF_INET };
		own.sin_addr.s_addr = htonl(0x7f010001 + (client - all));
		if (bind(client->socket, (void *)&own, sizeof own) < 0 || epoll_ctl(waiting, EPOLL_CTL_ADD, client->socket, &event) < 0)
			fail("socket");
		client->window = 1;
		client->heard = now();
		ask(client);
	}
	while (left > 0) {
		struct epoll_event events[64];
		int ready = epoll_wait(waiting, events, 64, 1000);
		for (int index = 0; index < ready; index++) {
			struct client *client = events[index].data.ptr;
			receive(client);
			if (!client->is_done) continue;
			if (client->bytes != file_bytes) {
				fprintf(stderr, "%llu bytes came\n", (unsigned long long)client->bytes);
				return 1;
			}
			close(client->socket);
			left--;
		}
		if (now() - started > LIMIT) {
			fprintf(stderr, "%d clients do not have the file\n", left);
			return 1;
		}
		if (ready > 0) continue;
		for (struct client *client = all; client < all + clients; client++) {
			if (client->is_done || now() - client->heard < 1) continue;
			repeated++;
			client->heard = now();
			if (client->is_connected) acknowledge(client);
			else ask(client);
		}
	}
	printf("%.3f %llu\n", now() - started, (unsigned long long)repeated);
	return 0;
}
