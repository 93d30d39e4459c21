/* The optional addon: what Node cannot do, or only for several times the processor time. */
#include "addon.h"

/* The caller is our own, but memory that is not the caller's must not be written for its mistake. */
napi_value refuse(napi_env env, const char *wanted) {
  napi_throw_type_error(env, NULL, wanted);
  return NULL;
}

bool bytes_of(napi_env env, napi_value value, void **bytes, size_t *length) {
  bool is_buffer = false;
  return napi_is_buffer(env, value, &is_buffer) == napi_ok && is_buffer &&
         napi_get_buffer_info(env, value, bytes, length) == napi_ok;
}

NAPI_MODULE_INIT() {
  define_ports(env, exports);
  define_files(env, exports);
  define_decoders(env, exports);
  define_memory(env, exports);
  return exports;
}
