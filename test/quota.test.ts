// A user whose quota is used up: the disk takes no more of what this user writes.

import assert from 'node:assert/strict'
import { spawnSync, type SpawnSyncReturns } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { openSiteDatabase } from '../src/site/database.ts'
import { repository } from './support/netimage.ts'
import { freshNames, temporaryDirectory } from './support/temporary.ts'

const freshName = freshNames(temporaryDirectory())

/** Not the index of a log: SQLite tells any failure to make it longer as a full disk. */
const shim = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int isOver(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  const char *owned = getenv("QUOTA_OF");
  return owned && strncmp(path, owned, strlen(owned)) == 0 && !strstr(path, "-shm");
}
#define WRAP(name, parameters, arguments) \
  ssize_t name parameters { \
    if (isOver(fd)) { errno = EDQUOT; return -1; } \
    return ((ssize_t (*) parameters)dlsym(RTLD_NEXT, #name)) arguments; \
  }
WRAP(write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
WRAP(pwrite, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at))
WRAP(pwrite64, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at))
`

suite('a quota that is used up', () => {
  const library = `${freshName()}.so`
  before(() => {
    const source = `${library}.c`
    writeFileSync(source, shim)
    const made = spawnSync('cc', ['-shared', '-fPIC', '-o', library, source], { encoding: 'utf8' })
    assert.equal(made.status, 0, made.stderr)
  })

  function node(owned: string, ...args: string[]): SpawnSyncReturns<string> {
    return spawnSync(process.execPath, args, {
      ...{ encoding: 'utf8', cwd: repository },
      env: { ...process.env, LD_PRELOAD: library, QUOTA_OF: owned },
    })
  }

  test('is a full disk for the site, with a hint about the quota', () => {
    const state = freshName()
    openSiteDatabase(state).close()
    const run = node(state, 'src/cli.ts', 'site', 'name', '10.0.0.7', 'pi1', '--state', state)
    assert.equal(run.status, 1)
    assert.match(run.stderr, /the disk is full \[disk-full\]\n.* quota /)
    assert.deepEqual(readdirSync(state), ['site.sqlite'])
  })

  test('is a full disk for leases', () => {
    const state = freshName()
    mkdirSync(state)
    const program = `
      import { openLeaseFile } from ${JSON.stringify(join(repository, 'src/protocols/dhcp/lease-file.ts'))}
      const file = ${JSON.stringify(join(state, 'leases.sqlite'))}
      const tell = ({ code }) => console.log(code)
      const first = openLeaseFile(file, tell)
      first.write({ mac: 'dc:a6:32:00:00:01', address: 1, expires: 1 })
      process.env.QUOTA_OF = ${JSON.stringify(state)}
      const writes = (leases) => {
        try {
          leases.write({ mac: 'dc:a6:32:00:00:02', address: 2, expires: 1 })
        } catch (error) {
          tell(error)
        }
      }
      writes(first)
      first.close()
      const second = openLeaseFile(file, tell)
      console.log(second.read().length)
      writes(second)
      second.close()`
    const run = node('/nowhere', '--input-type=module', '--eval', program)
    assert.equal(run.stdout, 'disk-full\ndisk-full\n1\ndisk-full\n', run.stderr)
  })

  test('is a full disk for a layer and for other files', () => {
    const [tree, layer] = [freshName(), freshName()]
    for (const each of [tree, layer]) mkdirSync(each)
    const from = (file: string) => JSON.stringify(join(repository, file))
    const program = `
      import { openLayer } from ${from('test/roots/support/open-layer.ts')}
      import { fileSystemError } from ${from('src/errors.ts')}
      import { createIndex } from ${from('test/roots/support/tree-index.ts')}
      import { writeFileSync } from 'node:fs'
      const index = createIndex('tree', ${JSON.stringify(tree)})
      const { fileSystem } = openLayer(${JSON.stringify(layer)}, index)
      const owned = { mode: 0o755, uid: 0, gid: 0 }
      const file = fileSystem.create(fileSystem.root, Buffer.from('file'), { ...owned, kind: 'file' })
      await fileSystem.stable()
      process.env.QUOTA_OF = ${JSON.stringify(layer)}
      const name = Buffer.from('x'.repeat(200))
      for (const action of [
        () => fileSystem.write(file, 0, Buffer.from('text')),
        () => fileSystem.create(fileSystem.root, name, { ...owned, kind: 'directory' }),
        () => writeFileSync(${JSON.stringify(join(layer, 'more'))}, 'text'),
      ]) {
        try {
          action()
          await fileSystem.stable()
        } catch (error) {
          const { code, hint } = fileSystemError('could not write', error)
          console.log(error.code, code, hint)
        }
      }`
    const run = node('/nowhere', '--input-type=module', '--eval', program)
    assert.match(run.stdout, /^(?:ENOSPC disk-full .*\n){2}.*-122 disk-full .* quota/, run.stderr)
  })
})
