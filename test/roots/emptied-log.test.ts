// The log of a layer's database is emptied while the server goes on to serve other machines.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { hash } from 'node:crypto'
import fs, {
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { mock, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { FileSystemError } from '../../src/protocols/nfs/file-system.ts'
import { connectNfs, wide } from '../protocols/support/nfs-client.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

let beforeSync = (_path: string) => {}
const { fdatasync } = fs
mock.method(fs, 'fdatasync', (file: number, done: (error: Error | null) => void) => {
  beforeSync(readlinkSync(`/proc/self/fd/${file}`))
  fdatasync(file, done)
})
syncBuiltinESMExports()
const { holdWork } = await import('../../src/protocols/turns.ts')
const { startNfsServer } = await import('../../src/protocols/nfs/server.ts')
const { openLayerDatabase } = await import('../../src/roots/database.ts')
const { createDroppedDirectories } = await import('../../src/roots/dropped-directories.ts')
const { createTransactions } = await import('../../src/roots/transactions.ts')
const { createIndex } = await import('./support/tree-index.ts')
const { openLayer } = await import('./support/open-layer.ts')
const { put } = await import('./support/stored-layers.ts')

const freshName = freshNames(temporaryDirectory())
const [tree] = [freshName()]
mkdirSync(tree)
const index = createIndex('tree', tree)

/** Bytes of a log that has to be emptied. */
const longLog = 4096 * (1024 + 24)
/** Bytes. */
const mostLog = 1.5 * longLog

function logOf(directory: string): number {
  return statSync(join(directory, 'layer.sqlite-wal')).size
}

interface Files {
  database: Buffer
  log: Buffer
}

function filesOf(directory: string): Files {
  const log = join(directory, 'layer.sqlite-wal')
  return {
    database: readFileSync(join(directory, 'layer.sqlite')),
    log: existsSync(log) ? readFileSync(log) : Buffer.alloc(0),
  }
}

/** The first bytes of one file, and the others of another one. */
function joined(one: Buffer, other: Buffer, at: number): Buffer {
  return Buffer.concat([one.subarray(0, at), other.subarray(at)])
}

/** Each second page from one file, and the others from another one. */
function mixed(one: Buffer, other: Buffer): Buffer {
  const pageBytes = 1024
  const made = Buffer.from(other)
  const end = Math.min(one.length, made.length)
  for (let at = 0; at < end; at += 2 * pageBytes) one.copy(made, at, at, at + pageBytes)
  return made
}

/** What a loss of power may leave of files, some of which were written since they were on the disk. */
function* lossesOf(stable: Files, now: Files): Generator<Files> {
  const header = 32
  const databases = [
    ...[stable.database, now.database],
    ...[mixed(stable.database, now.database), mixed(now.database, stable.database)],
  ]
  for (const database of databases) {
    for (const log of [stable.log, now.log]) yield { database, log }
    yield { database, log: joined(now.log, stable.log, header) }
    yield { database, log: joined(stable.log, now.log, header) }
  }
}

function mustHaveNames({ database, log }: Files, least: number): void {
  const directory = freshName()
  mkdirSync(directory)
  writeFileSync(join(directory, 'layer.sqlite'), database)
  writeFileSync(join(directory, 'layer.sqlite-wal'), log)
  const opened = openLayerDatabase(directory)
  assert.deepEqual(opened.damage(), [])
  const names = new Set(opened.entriesWhere('directory = 1').map(({ name }) => name.toString()))
  for (let number = 0; number < least; number++) assert.ok(names.has(`n${number}`), `n${number}`)
  opened.close()
}

test('a layer loses nothing if the power fails while its log is emptied, or after that', async () => {
  const directory = freshName()
  mkdirSync(directory)
  let [isEmptying, emptied, syncsAfter] = [false, 0, 0]
  const layer = openLayer(directory, index, {
    hold(until) {
      isEmptying = true
      void until.then(() => {
        isEmptying = false
        emptied++
        syncsAfter = 2
      })
    },
  })
  const { fileSystem } = layer
  const old = Array.from({ length: 64 }, (_, number) => Buffer.from(`old${number}`))
  for (const name of old) put(fileSystem, name.toString(), '')
  let [stable, acknowledged]: [Files | undefined, number] = [undefined, 0]
  beforeSync = (path) => {
    if (!path.startsWith(join(directory, 'layer.sqlite'))) return
    const now = filesOf(directory)
    stable ??= now
    if (isEmptying || syncsAfter-- > 0) {
      const seen = new Map<string, Files>()
      for (const files of lossesOf(stable, now))
        seen.set(`${hash('md5', files.database)} ${hash('md5', files.log)}`, files)
      for (const files of seen.values()) mustHaveNames(files, acknowledged)
    }
    // When the sync has ended, what was written before it is on the disk.
    if (path.endsWith('-wal')) stable = { ...stable, log: now.log }
    else stable = { ...stable, database: now.database }
    const name = isEmptying ? old.pop() : undefined
    try {
      // A change that comes when the sync has begun.
      if (name) fileSystem.remove(fileSystem.root, name)
    } catch (error) {
      assert.ok(error instanceof FileSystemError && error.until)
    }
  }
  for (let number = 0; (emptied < 2 || syncsAfter > 0) && number < 20_000;) {
    for (let each = 0; each < 16; each++) put(fileSystem, `n${number++}`, '')
    await fileSystem.stable()
    acknowledged = number
  }
  beforeSync = () => {}
  assert.equal(emptied, 2)
  await layer.close()
  mustHaveNames(filesOf(directory), acknowledged)
})

test('a machine cannot change its layer while the log is emptied, and waits without knowing it', async () => {
  const directory = freshName()
  mkdirSync(directory)
  const [machine, port] = ['127.0.0.1', 0]
  const logs: number[] = []
  let emptied = 0
  const layer = openLayer(directory, index, {
    hold(until) {
      holdWork(machine, until)
      void until.then(() => {
        emptied++
        logs.push(logOf(directory))
      })
    },
  })
  const { fileSystem } = layer
  let [tried, answer]: [number, unknown] = [0, undefined]
  beforeSync = (path) => {
    if (path !== join(directory, 'layer.sqlite')) return
    tried++
    try {
      put(fileSystem, 'other', '')
    } catch (error) {
      answer = error
    }
    assert.ok(fileSystem.lookup(fileSystem.root, Buffer.from('file')))
  }
  const errors: Error[] = []
  const exported = { path: '/root', layer: 'layer', fileSystem }
  await using closing = new AsyncDisposableStack()
  closing.defer(() => layer.close())
  const server = await startNfsServer({
    ...{ address: machine, ports: { nfs: port }, handleKey: Buffer.alloc(32) },
    machineOf: () => ({ name: machine, exports: [exported] }),
    report: () => {},
    onError: (error) => void errors.push(error),
  })
  closing.defer(() => server.close())
  using client = await connectNfs(server.ports.nfs)
  const { handle } = await client.mount('/root')
  const file = put(fileSystem, 'file', '')
  const at = await client.find(handle, 'file')
  const unstable = 0
  // Larger than what the server keeps of a call that is not possible yet.
  const bytes = Buffer.alloc(8192)
  while (emptied < 2) {
    const calls = Array.from({ length: 64 }, () =>
      client.ask('WRITE', [at, wide(0), bytes.length, unstable, bytes]),
    )
    for (const { status } of await Promise.all(calls)) assert.equal(status, 0)
  }
  beforeSync = () => {}
  assert.equal(tried, 2)
  assert.ok(answer instanceof FileSystemError && answer.until)
  for (const bytes of logs) assert.ok(bytes > longLog && bytes < mostLog, String(bytes))
  assert.equal(fileSystem.attributes(file).size, bytes.length)
  put(fileSystem, 'other', '')
  assert.deepEqual(errors, [])
})

/** A database whose log is emptied only by its transactions. */
function openKept() {
  const directory = freshName()
  mkdirSync(directory)
  const database = openLayerDatabase(directory)
  database.keepLog()
  return { directory, database }
}

const noHooks = {
  ...{ failed: undefined, beforeCommit() {}, afterCommit() {}, undone() {} },
  ...{ giveUpReserve: () => false, hold() {}, onFailure: assert.fail },
}

test('a log that the opening made very long is emptied after the first change, and takes no more room then', async () => {
  const { directory, database } = openKept()
  database.begin()
  database.writeMeta('large', 'x'.repeat(4 * longLog))
  database.commit()
  const transactions = createTransactions({
    database,
    ...noHooks,
    beforeSync: async () => async () => {},
  })
  assert.ok(logOf(directory) > 4 * longLog)
  transactions.run(() => database.writeMeta('small', 1))
  await transactions.stable()
  assert.ok(logOf(directory) <= 2 * longLog, String(logOf(directory)))
  assert.equal(String(database.readMeta('large')).length, 4 * longLog)
  assert.equal(database.readMeta('small'), 1)
  database.close()
})

test('the names of a removed directory are not deleted while a long log waits for the disk', async () => {
  const { directory, database } = openKept()
  const removed = 7
  const names = 10_000
  database.begin()
  const time = { seconds: 0, nanoseconds: 0 }
  database.writeNode({
    ...{ id: removed, kind: 'directory', mode: 0o755, uid: 0, gid: 0, links: 0, parent: 1 },
    ...{ device: { major: 0, minor: 0 }, target: undefined, ownData: false },
    ...{ accessed: time, modified: time, changed: time },
  })
  for (let number = 0; number < names; number++) {
    const name = Buffer.from(`${number}`.padEnd(250, 'n'))
    database.writeEntry(removed, { name, node: undefined, cookie: 0 })
  }
  database.commit()
  assert.ok(logOf(directory) > longLog)
  const logs: number[] = []
  const transactions = createTransactions({
    database,
    ...noHooks,
    afterCommit: () => dropped.goOn(),
    async beforeSync() {
      logs.push(logOf(directory))
      // More than there are pieces.
      for (let count = 0; count < 100; count++) await turn()
      logs.push(logOf(directory))
      return async () => {}
    },
  })
  const dropped = createDroppedDirectories(database, transactions)
  transactions.run(() => dropped.drop(removed))
  await transactions.stable()
  const [before = 0, after] = logs
  assert.equal(after, before)
  while (database.entriesWhere('directory = ?', removed).length > 0) await turn()
  await transactions.stable()
  assert.ok(logOf(directory) <= 2 * longLog, String(logOf(directory)))
  await dropped.stop()
  database.close()
})

test('a machine can read while its log cannot be emptied, because the server has no descriptor left', async () => {
  const { database } = openKept()
  let [held, released, refused, heldAtLast] = [0, 0, 0, 0]
  const transactions = createTransactions({
    database,
    ...noHooks,
    async beforeSync() {
      if (held > 0 && refused < 2) {
        refused++
        heldAtLast = held - released
        throw new FileSystemError('EAGAIN', 'no descriptor is left')
      }
      return async () => {}
    },
    hold(until) {
      held++
      void until.then(() => released++)
    },
  })
  for (let number = 1; held < 2 && number < 20_000; number++) {
    transactions.run(() => database.writeMeta(`n${number}`, number))
    if (number % 16 === 0) await transactions.stable()
  }
  await transactions.stable()
  assert.deepEqual([refused, heldAtLast, held, released], [2, 0, 2, 2])
  assert.equal(database.isLogLong(), false)
  database.close()
})

/** Notes each sync of the thread that has the event loop. */
const shim = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static void note(void) {
  if (gettid() != getpid()) return;
  int file = open(getenv("MAIN_SYNCS"), O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (write(file, ".", 1) != 1) abort();
  close(file);
}
#define WRAP(name) \\
  int name(int fd) { note(); return ((int (*)(int))dlsym(RTLD_NEXT, #name))(fd); }
WRAP(fsync)
WRAP(fdatasync)
`

/** @returns the path of a library for LD_PRELOAD */
function buildLibrary(source: string): string {
  const library = `${freshName()}.so`
  writeFileSync(`${library}.c`, source)
  const made = spawnSync('cc', ['-shared', '-fPIC', '-o', library, `${library}.c`])
  assert.equal(made.status, 0, String(made.stderr))
  return library
}

test('the log is emptied without a wait for the disk in the event loop', async () => {
  const [syncs, directory] = [freshName(), freshName()]
  mkdirSync(directory)
  const program = join(import.meta.dirname, 'support/emptied-log-program.ts')
  const env = { ...process.env, LD_PRELOAD: buildLibrary(shim), MAIN_SYNCS: syncs }
  const { stdout } = await promisify(execFile)(process.execPath, [program, directory], { env })
  assert.equal(stdout, '0\n')
  // SQLite itself waits when the database is new, so this test would see it.
  assert.ok(readFileSync(syncs).length > 0)
})

/** Notes what happens to the log: `h` if its header is written, `s` if it is synced, `c` if it is cut off. */
const logShim = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void note(int fd, const char *event) {
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path);
  if (length < 4 || memcmp(path + length - 4, "-wal", 4) != 0) return;
  int file = open(getenv("LOG_EVENTS"), O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (write(file, event, 1) != 1) abort();
  close(file);
}
#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, #name))
#define SYNC(name) int name(int fd) { int result = NEXT(int (*)(int), name)(fd); note(fd, "s"); return result; }
#define CUT(name) int name(int fd, off_t size) { note(fd, "c"); return NEXT(int (*)(int, off_t), name)(fd, size); }
#define WRITE(name) ssize_t name(int fd, const void *bytes, size_t count, off_t at) { \\
  if (at == 0) note(fd, "h"); return NEXT(ssize_t (*)(int, const void *, size_t, off_t), name)(fd, bytes, count, at); }
SYNC(fsync)
SYNC(fdatasync)
CUT(ftruncate)
CUT(ftruncate64)
WRITE(pwrite)
WRITE(pwrite64)
`

test('a very long log is cut off only when its new header is on the disk, so that old transactions do not come back', async () => {
  const [events, directory] = [freshName(), freshName()]
  mkdirSync(directory)
  const program = join(import.meta.dirname, 'support/cut-log-program.ts')
  const env = { ...process.env, LD_PRELOAD: buildLibrary(logShim), LOG_EVENTS: events }
  const { stdout } = await promisify(execFile)(process.execPath, [program, directory], { env })
  assert.equal(stdout, 'true\n')
  const seen = readFileSync(events, 'utf8')
  assert.match(seen, /hs+c/)
  assert.doesNotMatch(seen, /h[^s]*c/)
})
