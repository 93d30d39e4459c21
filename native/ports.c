/*
 * UDP ports for the transfers of TFTP, in few system calls and without an object for each packet.
 * Everything about TFTP is in src/protocols/tftp; this file only calls the kernel.
 *
 * Node-API and version 1 of libuv have stable interfaces, so one build serves many versions of Node.
 * https://nodejs.org/api/n-api.html, https://docs.libuv.org
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include "addon.h"

/*
 * What native-ports.ts reads: `slots` datagrams one after the other. Each is the descriptor of the
 * port (4 bytes), the length of the payload (4), the sender as a socket address, and the payload.
 * A longer payload is cut off.
 */
enum { slots = 64, slot_bytes = 2048, sender_at = 8, payload_at = 40 };

/* The kernel makes at most so many packets of one, and the one has at most so many bytes. */
enum { most_cut = 64, most_cut_bytes = 65000 };

typedef struct {
  napi_env env;
  napi_ref receive;
  napi_ref incoming;
  napi_async_context context;
  napi_async_cleanup_hook_handle cleanup;
  uint8_t *datagrams;
  int epoll;
  /* Its size may be another one in another version of Node. */
  uv_poll_t *poll;
} Ports;

static napi_value fail(napi_env env, const char *what, int number) {
  char message[200];
  snprintf(message, sizeof message, "%s: %s", what, strerror(number));
  napi_throw_error(env, NULL, message);
  return NULL;
}

static uint32_t receive_waiting(Ports *ports) {
  struct epoll_event events[slots];
  int ready = epoll_wait(ports->epoll, events, slots, 0);
  uint32_t count = 0;
  for (int index = 0; index < ready; index++) {
    uint8_t *slot = ports->datagrams + count * slot_bytes;
    struct sockaddr *sender = (struct sockaddr *)(slot + sender_at);
    socklen_t size = payload_at - sender_at;
    uint32_t port = events[index].data.u32;
    memset(sender, 0, size);
    ssize_t length = recvfrom(port, slot + payload_at, slot_bytes - payload_at, MSG_DONTWAIT, sender, &size);
    if (length < 0) continue;
    uint32_t head[2] = {port, (uint32_t)length};
    memcpy(slot, head, sizeof head);
    count++;
  }
  return count;
}

static void on_readable(uv_poll_t *poll, int status, int events) {
  Ports *ports = poll->data;
  uint32_t count = receive_waiting(ports);
  if (count == 0) return;
  napi_env env = ports->env;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value receive, self, argument, error;
  napi_get_reference_value(env, ports->receive, &receive);
  napi_get_reference_value(env, ports->incoming, &self);
  napi_create_uint32(env, count, &argument);
  napi_status done = napi_make_callback(env, ports->context, self, receive, 1, &argument, NULL);
  if (done == napi_pending_exception && napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
}

static void on_closed(uv_handle_t *handle) {
  Ports *ports = handle->data;
  napi_remove_async_cleanup_hook(ports->cleanup);
  close(ports->epoll);
  free(ports->poll);
  free(ports);
}

/* Without this, a thread whose environment ends would leave a handle in its loop. */
static void end(napi_async_cleanup_hook_handle cleanup, void *data) {
  Ports *ports = data;
  uv_close((uv_handle_t *)ports->poll, on_closed);
}

/* start(incoming: Buffer, receive: (count: number) => void): called once, before the others. */
static napi_value start(napi_env env, napi_callback_info info) {
  size_t count = 2, bytes;
  napi_value arguments[2], name;
  napi_valuetype type;
  uv_loop_t *loop;
  void *datagrams, *started = NULL;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (!bytes_of(env, arguments[0], &datagrams, &bytes) || bytes < slots * slot_bytes) {
    return refuse(env, "start wants a buffer with room for all datagrams");
  }
  if (napi_typeof(env, arguments[1], &type) != napi_ok || type != napi_function) {
    return refuse(env, "start wants a function that receives");
  }
  napi_get_instance_data(env, &started);
  if (started) return refuse(env, "start is called once");
  Ports *ports = calloc(1, sizeof *ports);
  if (ports) ports->poll = calloc(1, uv_handle_size(UV_POLL));
  if (!ports || !ports->poll) {
    free(ports);
    return fail(env, "calloc", ENOMEM);
  }
  ports->env = env;
  ports->poll->data = ports;
  napi_get_uv_event_loop(env, &loop);
  ports->epoll = epoll_create1(EPOLL_CLOEXEC);
  int number = ports->epoll < 0 ? errno : -uv_poll_init(loop, ports->poll, ports->epoll);
  if (number != 0) {
    if (ports->epoll >= 0) close(ports->epoll);
    free(ports->poll);
    free(ports);
    return fail(env, "could not watch ports", number);
  }
  ports->datagrams = datagrams;
  napi_create_reference(env, arguments[0], 1, &ports->incoming);
  napi_create_reference(env, arguments[1], 1, &ports->receive);
  napi_create_string_utf8(env, "netimage.ports", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &ports->context);
  uv_poll_start(ports->poll, UV_READABLE, on_readable);
  /* The server's own socket keeps the program running. */
  uv_unref((uv_handle_t *)ports->poll);
  napi_set_instance_data(env, ports, NULL, NULL);
  napi_add_async_cleanup_hook(env, end, ports, &ports->cleanup);
  return NULL;
}

/* Fills `list` with the one address of a numeric host, which may name an interface: fe80::1%eth0. */
static int parse(napi_env env, napi_value host, const char *port, struct addrinfo **list) {
  char text[128];
  size_t length;
  struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
  if (napi_get_value_string_utf8(env, host, text, sizeof text, &length) != napi_ok) return EAI_NONAME;
  return getaddrinfo(text, port, &numeric, list);
}

/* socketAddress(host: string, port: string): Buffer, as `send` wants it. */
static napi_value socket_address(napi_env env, napi_callback_info info) {
  size_t count = 2, length;
  char port[16];
  napi_value arguments[2], result = NULL;
  struct addrinfo *found;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_string_utf8(env, arguments[1], port, sizeof port, &length) != napi_ok ||
      parse(env, arguments[0], port, &found) != 0) {
    return fail(env, "socketAddress", EINVAL);
  }
  napi_create_buffer_copy(env, found->ai_addrlen, found->ai_addr, NULL, &result);
  freeaddrinfo(found);
  return result;
}

/* open(address: string): number, the descriptor of a port that sends from this address. */
static napi_value open_port(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1], result = NULL;
  struct addrinfo *found;
  void *data = NULL;
  napi_get_instance_data(env, &data);
  Ports *ports = data;
  if (!ports) return refuse(env, "start is called before open");
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (parse(env, arguments[0], "0", &found) != 0) return fail(env, "open", EINVAL);
  int port = socket(found->ai_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int number = 0;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)port};
  if (port < 0 || bind(port, found->ai_addr, found->ai_addrlen) < 0 ||
      epoll_ctl(ports->epoll, EPOLL_CTL_ADD, port, &event) < 0) {
    number = errno;
  }
  freeaddrinfo(found);
  if (number != 0) {
    if (port >= 0) close(port);
    return fail(env, "could not open a port", number);
  }
  napi_create_int32(env, port, &result);
  return result;
}

/* A packet for which there is no room is lost, as on any network. */
static int error_of(ssize_t sent) {
  return sent < 0 && errno != EAGAIN && errno != ENOBUFS ? errno : 0;
}

/* send(port: number, packet: Buffer, to: Buffer): number, 0 or the number of the error. */
static napi_value send_packet(napi_env env, napi_callback_info info) {
  size_t count = 3, length, size;
  int32_t port;
  void *packet, *to;
  napi_value arguments[3], result;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_int32(env, arguments[0], &port) != napi_ok ||
      !bytes_of(env, arguments[1], &packet, &length) || !bytes_of(env, arguments[2], &to, &size)) {
    return refuse(env, "send wants a port, a packet and an address");
  }
  int number = error_of(sendto(port, packet, length, MSG_DONTWAIT, to, (socklen_t)size));
  napi_create_int32(env, number, &result);
  return result;
}

/* Sends packets of equal length as one, which the kernel or the network card cuts. The last may be shorter. */
static int send_cut(int32_t port, struct msghdr packets) {
  uint16_t length = (uint16_t)packets.msg_iov[0].iov_len;
  union {
    struct cmsghdr header;
    uint8_t bytes[CMSG_SPACE(sizeof length)];
  } control = {.header = {.cmsg_len = CMSG_LEN(sizeof length), .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT}};
  memcpy(CMSG_DATA(&control.header), &length, sizeof length);
  packets.msg_control = &control;
  packets.msg_controllen = sizeof control;
  return error_of(sendmsg(port, &packets, MSG_DONTWAIT));
}

static int send_each(int32_t port, struct msghdr packets) {
  int number = 0;
  for (size_t left = packets.msg_iovlen; left > 0 && number == 0; left--) {
    packets.msg_iovlen = 1;
    number = error_of(sendmsg(port, &packets, MSG_DONTWAIT));
    packets.msg_iov++;
  }
  return number;
}

/*
 * sendAll(port: number, packets: Buffer[], to: Buffer): number, as `send`. The packets have the same length, and the
 * last may be shorter.
 */
static napi_value send_packets(napi_env env, napi_callback_info info) {
  size_t count = 3, size;
  uint32_t packets;
  int32_t port;
  void *to;
  napi_value arguments[3], packet, result;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_int32(env, arguments[0], &port) != napi_ok ||
      napi_get_array_length(env, arguments[1], &packets) != napi_ok || !bytes_of(env, arguments[2], &to, &size)) {
    return refuse(env, "sendAll wants a port, packets and an address");
  }
  int number = 0;
  for (uint32_t next = 0; next < packets && number == 0;) {
    struct iovec parts[most_cut];
    struct msghdr message = {.msg_name = to, .msg_namelen = (socklen_t)size, .msg_iov = parts};
    for (size_t bytes = 0; next < packets && message.msg_iovlen < most_cut; next++) {
      struct iovec *part = parts + message.msg_iovlen;
      if (napi_get_element(env, arguments[1], next, &packet) != napi_ok ||
          !bytes_of(env, packet, &part->iov_base, &part->iov_len)) {
        return refuse(env, "sendAll wants packets that are buffers");
      }
      bytes += part->iov_len;
      if (bytes > most_cut_bytes && message.msg_iovlen > 0) break;
      message.msg_iovlen++;
    }
    /* The kernel refuses to cut if a packet is larger than those of the network. */
    if (message.msg_iovlen == 1 || send_cut(port, message) != 0) number = send_each(port, message);
  }
  napi_create_int32(env, number, &result);
  return result;
}

/* close(port: number) */
static napi_value close_port(napi_env env, napi_callback_info info) {
  size_t count = 1;
  int32_t port;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_int32(env, arguments[0], &port) != napi_ok) return refuse(env, "close wants a port");
  close(port);
  return NULL;
}

void define_ports(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"start", NULL, start, NULL, NULL, NULL, napi_default, NULL},
      {"socketAddress", NULL, socket_address, NULL, NULL, NULL, napi_default, NULL},
      {"open", NULL, open_port, NULL, NULL, NULL, napi_default, NULL},
      {"send", NULL, send_packet, NULL, NULL, NULL, napi_default, NULL},
      {"sendAll", NULL, send_packets, NULL, NULL, NULL, napi_default, NULL},
      {"close", NULL, close_port, NULL, NULL, NULL, napi_default, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
}
