/* Each part of the addon adds its functions to `exports`. */
#include <node_api.h>

void define_ports(napi_env env, napi_value exports);
void define_files(napi_env env, napi_value exports);
void define_decoders(napi_env env, napi_value exports);
