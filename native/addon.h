/* Each part of the addon adds its functions to `exports`. */
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>

/* Throws a TypeError. Returns NULL, which the caller returns. */
napi_value refuse(napi_env env, const char *wanted);

/* Whether the value is a buffer. Node would abort for another value. */
bool bytes_of(napi_env env, napi_value value, void **bytes, size_t *length);

void define_ports(napi_env env, napi_value exports);
void define_files(napi_env env, napi_value exports);
void define_decoders(napi_env env, napi_value exports);
void define_memory(napi_env env, napi_value exports);
