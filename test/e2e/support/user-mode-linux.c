// Loaded into User Mode Linux (LD_PRELOAD), which cannot start a process on a processor whose vector
// registers take more than 2,696 bytes, for example with AMX: it sets its processes' registers by
// PTRACE_SETREGSET with NT_X86_XSTATE, and the kernel of this computer accepts only all of them
// (xstateregs_set in arch/x86/kernel/fpu/regset.c). Here the rest is added as the process has it.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long (*Ptrace)(int request, pid_t pid, void *address, void *data);

static Ptrace next;
// Not on the stack: the stacks of User Mode Linux are small. It has one thread.
static char all[1 << 16];

__attribute__((constructor)) static void find(void) {
  next = (Ptrace)dlsym(RTLD_NEXT, "ptrace");
}

long ptrace(enum __ptrace_request request, ...) {
  va_list rest;
  va_start(rest, request);
  pid_t pid = va_arg(rest, pid_t);
  void *address = va_arg(rest, void *);
  void *data = va_arg(rest, void *);
  va_end(rest);
  if (request != PTRACE_SETREGSET || address != (void *)NT_X86_XSTATE)
    return next(request, pid, address, data);
  const struct iovec *some = data;
  struct iovec whole = {all, sizeof all};
  if (next(PTRACE_GETREGSET, pid, address, &whole) != 0 || some->iov_len >= whole.iov_len)
    return next(request, pid, address, data);
  memcpy(all, some->iov_base, some->iov_len);
  return next(request, pid, address, &whole);
}
