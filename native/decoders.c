/*
 * The decoders of the system's liblzma and libzstd. A call decodes into a buffer of the caller, which it
 * can use again. The libraries are looked for at run time: a system without them has other decoders.
 *
 * Both libraries have kept what is declared here since their first version with this name.
 * https://github.com/tukaani-project/xz/blob/master/src/liblzma/api/lzma/base.h
 * https://github.com/facebook/zstd/blob/dev/lib/zstd.h
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "addon.h"

typedef struct {
  const uint8_t *next_in;
  size_t avail_in;
  uint64_t total_in;
  uint8_t *next_out;
  size_t avail_out;
  uint64_t total_out;
  const void *allocator;
  void *internal;
  void *reserved_pointers[4];
  uint64_t seek_pos, reserved_int2;
  size_t reserved_sizes[2];
  int reserved_enums[2];
} LzmaStream;

enum { lzma_ok = 0, lzma_stream_end = 1, lzma_run = 0, lzma_finish = 3 };
/* A check that the library does not know is an error, and one stream may follow another. */
enum { lzma_tell_unsupported_check = 0x02, lzma_concatenated = 0x08 };
/* The caller allows dictionaries of 128 MiB. */
static const uint64_t lzma_memory = UINT64_C(1) << 28;

typedef struct {
  const void *bytes;
  size_t size, at;
} ZstdIn;

typedef struct {
  void *bytes;
  size_t size, at;
} ZstdOut;

/* A window of 128 MiB. */
enum { zstd_window_log_max = 100, zstd_largest_window = 27 };

static struct {
  int (*lzma_stream_decoder)(LzmaStream *, uint64_t, uint32_t);
  int (*lzma_code)(LzmaStream *, int);
  void (*lzma_end)(LzmaStream *);
  void *(*create_zstd)(void);
  size_t (*free_zstd)(void *);
  size_t (*set_zstd)(void *, int, int);
  size_t (*decode_zstd)(void *, ZstdOut *, ZstdIn *);
  unsigned (*is_zstd_error)(size_t);
  const char *(*zstd_error)(size_t);
} libraries;

/* Each thread that loads the addon finds the same. */
static bool find(const char *library, const char *const names[], void **functions[], size_t count) {
  /* Node has a zstd of its own, whose functions must not be mixed with those of the library. */
  void *opened = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (!opened) return false;
  for (size_t index = 0; index < count; index++) {
    *functions[index] = dlsym(opened, names[index]);
    if (!*functions[index]) return false;
  }
  return true;
}

#define LENGTH(list) (sizeof(list) / sizeof *(list))
#define SLOT(name) ((void **)&libraries.name)

static bool find_lzma(void) {
  static const char *const names[] = {"lzma_stream_decoder", "lzma_code", "lzma_end"};
  void **functions[] = {SLOT(lzma_stream_decoder), SLOT(lzma_code), SLOT(lzma_end)};
  return find("liblzma.so.5", names, functions, LENGTH(names));
}

static bool find_zstd(void) {
  static const char *const names[] = {"ZSTD_createDStream", "ZSTD_freeDStream", "ZSTD_DCtx_setParameter",
                                      "ZSTD_decompressStream", "ZSTD_isError", "ZSTD_getErrorName"};
  void **functions[] = {SLOT(create_zstd), SLOT(free_zstd), SLOT(set_zstd),
                        SLOT(decode_zstd), SLOT(is_zstd_error), SLOT(zstd_error)};
  return find("libzstd.so.1", names, functions, LENGTH(names));
}

/* Without memory of its library it is closed. */
typedef struct {
  LzmaStream *lzma;
  void *zstd;
} Decoder;

static void release(Decoder *decoder) {
  if (decoder->lzma) {
    libraries.lzma_end(decoder->lzma);
    free(decoder->lzma);
  }
  if (decoder->zstd) libraries.free_zstd(decoder->zstd);
  *decoder = (Decoder){NULL, NULL};
}

static void forget(napi_env env, void *data, void *hint) {
  release(data);
  free(data);
}

static napi_value fail(napi_env env, const char *why) {
  napi_throw_error(env, NULL, why);
  return NULL;
}

static const napi_type_tag decoder_tag = {0x6e6574696d616765, 0x6465636f64657273};

static Decoder *decoder_of(napi_env env, napi_value value) {
  void *decoder;
  bool is_ours = false;
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_external) return NULL;
  if (napi_check_object_type_tag(env, value, &decoder_tag, &is_ours) != napi_ok || !is_ours) return NULL;
  return napi_get_value_external(env, value, &decoder) == napi_ok ? decoder : NULL;
}

static bool open_lzma(Decoder *decoder) {
  if (!find_lzma()) return false;
  decoder->lzma = calloc(1, sizeof *decoder->lzma);
  const uint32_t flags = lzma_tell_unsupported_check | lzma_concatenated;
  return decoder->lzma && libraries.lzma_stream_decoder(decoder->lzma, lzma_memory, flags) == lzma_ok;
}

static bool open_zstd(Decoder *decoder) {
  if (!find_zstd()) return false;
  decoder->zstd = libraries.create_zstd();
  if (!decoder->zstd) return false;
  return !libraries.is_zstd_error(libraries.set_zstd(decoder->zstd, zstd_window_log_max, zstd_largest_window));
}

/* openDecoder(format: 'xz' | 'zstd'): a decoder; undefined if the system does not have the library */
static napi_value open_decoder(napi_env env, napi_callback_info info) {
  size_t count = 1, length;
  char format[8];
  napi_value arguments[1], result;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  if (napi_get_value_string_utf8(env, arguments[0], format, sizeof format, &length) != napi_ok) {
    return fail(env, "openDecoder wants a format");
  }
  Decoder *decoder = calloc(1, sizeof *decoder);
  if (!decoder) return NULL;
  const bool is_xz = strcmp(format, "xz") == 0;
  const bool is_open = is_xz ? open_lzma(decoder) : strcmp(format, "zstd") == 0 && open_zstd(decoder);
  if (!is_open || napi_create_external(env, decoder, forget, NULL, &result) != napi_ok) {
    forget(env, decoder, NULL);
    return NULL;
  }
  napi_type_tag_object(env, result, &decoder_tag);
  return result;
}

static const char *lzma_error(int status) {
  static const char *const errors[] = {
      [3] = "its check is of an unknown kind", [5] = "there is not enough memory",
      [6] = "it needs too much memory",        [7] = "it is not xz",
      [8] = "it has unknown options",          [9] = "its data is damaged",
      [10] = "it is cut off"};
  const size_t index = (size_t)status;
  return index < LENGTH(errors) && errors[index] ? errors[index] : "it cannot be decoded";
}

/*
 * decode(decoder, input: Buffer, at: number, output: Buffer, counts: Buffer): boolean
 *
 * Decodes the input from byte `at` on, until its end or until the output is full. The first 4 bytes of
 * `counts` get how many bytes were taken, and the next 4 how many were written. Input without bytes means
 * the end of the stream. Returns whether the stream is complete. Throws if it is damaged.
 */
static napi_value decode(napi_env env, napi_callback_info info) {
  size_t count = 5, in_length, out_length, counts_length;
  uint32_t at;
  void *in, *out, *counts;
  napi_value arguments[5], result;
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Decoder *decoder = decoder_of(env, arguments[0]);
  if (!decoder || !bytes_of(env, arguments[1], &in, &in_length) ||
      napi_get_value_uint32(env, arguments[2], &at) != napi_ok || at > in_length ||
      !bytes_of(env, arguments[3], &out, &out_length) || out_length > UINT32_MAX ||
      !bytes_of(env, arguments[4], &counts, &counts_length) || counts_length < 8) {
    return fail(env, "decode wants a decoder, the input, a position in it, the output and the counts");
  }
  uint32_t taken = 0, written = 0;
  bool is_complete = false;
  /* An empty buffer may have no address. */
  const uint8_t *from = in_length > at ? (const uint8_t *)in + at : NULL;
  if (decoder->lzma) {
    LzmaStream *stream = decoder->lzma;
    stream->next_in = from;
    stream->avail_in = in_length - at;
    stream->next_out = out;
    stream->avail_out = out_length;
    const int status = libraries.lzma_code(stream, in_length == 0 ? lzma_finish : lzma_run);
    if (status != lzma_ok && status != lzma_stream_end) return fail(env, lzma_error(status));
    taken = (uint32_t)(in_length - at - stream->avail_in);
    written = (uint32_t)(out_length - stream->avail_out);
    is_complete = status == lzma_stream_end;
  } else if (decoder->zstd) {
    ZstdIn input = {from, in_length - at, 0};
    ZstdOut output = {out, out_length, 0};
    const size_t status = libraries.decode_zstd(decoder->zstd, &output, &input);
    if (libraries.is_zstd_error(status)) return fail(env, libraries.zstd_error(status));
    taken = (uint32_t)input.at;
    written = (uint32_t)output.at;
    is_complete = status == 0;
  } else {
    return fail(env, "the decoder is closed");
  }
  memcpy(counts, &taken, sizeof taken);
  memcpy((uint8_t *)counts + sizeof taken, &written, sizeof written);
  napi_get_boolean(env, is_complete, &result);
  return result;
}

/* closeDecoder(decoder): gives its memory back at once */
static napi_value close_decoder(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value arguments[1];
  napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
  Decoder *decoder = decoder_of(env, arguments[0]);
  if (!decoder) return fail(env, "closeDecoder wants a decoder");
  release(decoder);
  return NULL;
}

void define_decoders(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"openDecoder", NULL, open_decoder, NULL, NULL, NULL, napi_default, NULL},
      {"decode", NULL, decode, NULL, NULL, NULL, napi_default, NULL},
      {"closeDecoder", NULL, close_decoder, NULL, NULL, NULL, napi_default, NULL},
  };
  napi_define_properties(env, exports, LENGTH(functions), functions);
}
