/* Sends files to TCP connections by the kernel alone, without a copy of the bytes in this process. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/magic.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/uio.h>

#include "addon.h"

/* A disk is read in steps of at least this size. */
enum { probe_bytes = 1 << 17 };

/* A descriptor that is another file by a mistake must not be written to. */
static bool is_tcp(int socket) {
  int protocol;
  socklen_t size = sizeof protocol;
  return getsockopt(socket, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

static bool is_in_memory_at(int file, off_t offset) {
  char byte;
  struct iovec one = {.iov_base = &byte, .iov_len = 1};
  struct statfs system;
  ssize_t count = preadv2(file, &one, 1, offset, RWF_NOWAIT);
  if (count >= 0) return count == 1;
  /* A tmpfs cannot tell, and has no disk. */
  return errno == EOPNOTSUPP && fstatfs(file, &system) == 0 && system.f_type == TMPFS_MAGIC;
}

/* Whether this part of a file is likely to be in memory: `sendfile` would wait for the disk otherwise. */
static bool is_in_memory(int file, off_t offset, int64_t length) {
  for (int64_t at = 0; at < length; at += probe_bytes) {
    if (!is_in_memory_at(file, offset + at)) return false;
  }
  return is_in_memory_at(file, offset + length - 1);
}

/*
 * sendFile(socket: number, file: number, offset: number, length: number): number
 *
 * Never waits. Returns how many bytes the socket has taken, or -1 if the bytes must be read and sent in another way:
 * they are not in memory, or the kernel cannot send them.
 */
static napi_value send_file(napi_env env, napi_callback_info info) {
  size_t count = 4;
  int32_t socket, file;
  int64_t offset, length;
  napi_value arguments[4], result;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_int32(env, arguments[0], &socket) != napi_ok ||
      napi_get_value_int32(env, arguments[1], &file) != napi_ok ||
      napi_get_value_int64(env, arguments[2], &offset) != napi_ok ||
      napi_get_value_int64(env, arguments[3], &length) != napi_ok || length < 1) {
    return refuse(env, "sendFile wants a socket, a file, an offset and a length");
  }
  ssize_t sent = -1;
  off_t at = offset;
  if (is_tcp(socket) && is_in_memory(file, offset, length)) {
    sent = sendfile(socket, file, &at, (size_t)length);
    if (sent < 0 && errno == EAGAIN) sent = 0;
  }
  napi_create_int64(env, sent, &result);
  return result;
}

/* unacknowledged(socket: number): number, the bytes that the peer may not have; 0 if that is not known. */
static napi_value unacknowledged(napi_env env, napi_callback_info info) {
  size_t count = 1;
  int32_t socket;
  int bytes = 0;
  napi_value arguments[1], result;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_int32(env, arguments[0], &socket) != napi_ok) {
    return refuse(env, "unacknowledged wants a socket");
  }
  if (ioctl(socket, SIOCOUTQ, &bytes) < 0) bytes = 0;
  napi_create_int32(env, bytes, &result);
  return result;
}

void define_files(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"sendFile", NULL, send_file, NULL, NULL, NULL, napi_default, NULL},
      {"unacknowledged", NULL, unacknowledged, NULL, NULL, NULL, napi_default, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
}
