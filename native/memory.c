/* What a C library keeps of the memory that the program does not use any more. */
#include "addon.h"

#include <malloc.h>

/*
 * giveBackMemory(): void
 *
 * Gives the kernel all pages that are free. glibc itself gives back only what is free at the end of its memory, so
 * one small object that lives on keeps all free memory before it. Other C libraries have no such function.
 */
static napi_value give_back_memory(napi_env env, napi_callback_info info) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return NULL;
}

void define_memory(napi_env env, napi_value exports) {
  const napi_property_descriptor function = {
      "giveBackMemory", NULL, give_back_memory, NULL, NULL, NULL, napi_default, NULL,
  };
  napi_define_properties(env, exports, 1, &function);
}
