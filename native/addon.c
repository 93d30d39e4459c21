/* The optional addon: what Node cannot do, or only for several times the processor time. */
#include "addon.h"

NAPI_MODULE_INIT() {
  define_ports(env, exports);
  define_files(env, exports);
  define_decoders(env, exports);
  return exports;
}
