// Loaded into User Mode Linux (LD_PRELOAD). User Mode Linux has room for 2,696 bytes of xstate. On a processor
// with more (AMX), the kernel refuses PTRACE_SETREGSET with a shorter buffer (xstateregs_set in
// arch/x86/kernel/fpu/regset.c). So this ptrace first reads the whole xstate of the process, replaces its
// beginning, and sets all of it.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long (*Ptrace)(int request, pid_t pid, void *address, void *data);

static Ptrace realPtrace;
// Not on the stack: the stacks of User Mode Linux are small. Only one of its threads calls ptrace.
static char xstate[1 << 16];

__attribute__((constructor)) static void findRealPtrace(void) {
  realPtrace = (Ptrace)dlsym(RTLD_NEXT, "ptrace");
}

long ptrace(enum __ptrace_request request, ...) {
  va_list rest;
  va_start(rest, request);
  pid_t pid = va_arg(rest, pid_t);
  void *address = va_arg(rest, void *);
  void *data = va_arg(rest, void *);
  va_end(rest);
  if (request != PTRACE_SETREGSET || address != (void *)NT_X86_XSTATE)
    return realPtrace(request, pid, address, data);
  const struct iovec *given = data;
  struct iovec whole = {xstate, sizeof xstate};
  if (realPtrace(PTRACE_GETREGSET, pid, address, &whole) != 0 || given->iov_len >= whole.iov_len)
    return realPtrace(request, pid, address, data);
  memcpy(xstate, given->iov_base, given->iov_len);
  return realPtrace(request, pid, address, &whole);
}
