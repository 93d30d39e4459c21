// On a machine with other users, none of these users decides which code netimage runs.

import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpSync, existsSync, renameSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { crc32 } from 'node:zlib'
import { privateDirectory } from '../../src/private-directory.ts'
import { startFakeCache } from '../support/fake-cache.ts'
import { mounted, ordinaryUser } from '../support/namespace.ts'
import { failureOf, netimage } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const fresh = freshNames(directory)
const isRoot = process.geteuid?.() === 0

function made(mode = 0o755): string {
  const path = fresh()
  mkdirSync(path)
  chmodSync(path, mode)
  return path
}

/** Gives a file to another user. Only root can do that; without root, everybody may write to it. */
function giveAway(path: string): void {
  if (isRoot) chownSync(path, ordinaryUser.uid, ordinaryUser.gid)
  else chmodSync(path, 0o777)
}

suite('a cache of compiled code', () => {
  let forged: string

  before(async () => {
    forged = join(directory, 'forged')
    const run = await netimage(['--version'], { env: { NODE_COMPILE_CACHE: forged } })
    assert.equal(run.status, 0, run.stderr)
    const changed = files(forged).filter((file) => forge(file))
    assert.equal(changed.length, 1)
  })

  const version = (env: Record<string, string | undefined>) =>
    netimage(['--version'], { env: { NODE_COMPILE_CACHE: undefined, ...env } })

  const genuine = async (env: Record<string, string | undefined>) => {
    const run = await version(env)
    assert.equal(run.status, 0, run.stderr)
    assert.match(run.stdout, /^\d+\.\d+\.\d+\n$/)
  }

  /** Writes code where another user would expect that Node looks for it. */
  function plant(place: string): void {
    cpSync(forged, place, { recursive: true })
    for (const file of [place, ...everything(place)]) giveAway(file)
  }

  test('decides which code Node runs, if Node uses it', async () => {
    const run = await netimage(['--version'], { env: { NODE_COMPILE_CACHE: forged } })
    assert.equal(run.stdout, 'forged')
  })

  test('of another user below the directory for temporary files is not used', async () => {
    const temporary = made(0o1777)
    plant(join(temporary, 'node-compile-cache'))
    await genuine({ TMPDIR: temporary, XDG_CACHE_HOME: fresh() })
    await genuine({ TMPDIR: temporary, XDG_CACHE_HOME: undefined, HOME: '/nonexistent' })
  })

  test('of another user in place of ours is not used', async () => {
    const home = made()
    mkdirSync(join(home, 'netimage'))
    plant(join(home, 'netimage/compile'))
    await genuine({ XDG_CACHE_HOME: home })
  })

  test('of ours is not used in a directory of another user', async () => {
    // If sudo keeps HOME, the user can replace files that root made in it.
    const home = made()
    mkdirSync(join(home, 'netimage'))
    cpSync(forged, join(home, 'netimage/compile'), { recursive: true })
    giveAway(home)
    await genuine({ XDG_CACHE_HOME: home })
    const empty = made()
    giveAway(empty)
    await genuine({ XDG_CACHE_HOME: empty })
    assert.deepEqual(readdirSync(empty), [])
  })

  test('of our own is closed to other users, and is used', async () => {
    const home = fresh()
    await genuine({ XDG_CACHE_HOME: home })
    const compiled = join(home, 'netimage/compile')
    assert.equal(statSync(compiled).mode & 0o777, 0o700)
    const changed = files(compiled).filter((file) => forge(file))
    assert.equal(changed.length, 1)
    assert.equal((await version({ XDG_CACHE_HOME: home })).stdout, 'forged')
  })

  test('is not needed', async () => {
    await genuine({ XDG_CACHE_HOME: '/proc/none' })
    await genuine({ XDG_CACHE_HOME: '/dev/null' })
  })
})

suite('a private directory', () => {
  test('is found through links, or made', () => {
    const real = made()
    const link = fresh()
    symlinkSync(real, link)
    assert.equal(privateDirectory(link), real)
    assert.equal(privateDirectory(join(link, 'a/b')), join(real, 'a/b'))
    assert.equal(statSync(join(real, 'a')).mode & 0o777, 0o700)
  })

  for (const mode of [0o777, 0o775, 0o1777]) {
    test(`is not used with the mode ${mode.toString(8)}`, () => {
      assert.equal(privateDirectory(made(mode)), undefined)
    })
  }

  test('is not used below a directory in which others can replace it', () => {
    const open = made(0o777)
    mkdirSync(join(open, 'inner'))
    assert.equal(privateDirectory(join(open, 'inner')), undefined)
    const shared = made(0o1777)
    mkdirSync(join(shared, 'inner'))
    assert.equal(privateDirectory(join(shared, 'inner')), join(shared, 'inner'))
    giveAway(join(shared, 'inner'))
    assert.equal(privateDirectory(join(shared, 'inner')), undefined)
  })
})

suite('a config in the current directory', () => {
  const command = ['build', `/nix/store/${'1'.repeat(32)}-none`, '--from', directory, '--json']

  async function runAt(cwd: string, ...more: string[]) {
    const mark = join(cwd, 'mark')
    const config = join(cwd, 'netimage.config.mjs')
    const code = `import { writeFileSync } from 'node:fs'
      writeFileSync(${JSON.stringify(mark)}, '')
      export default {}`
    if (!existsSync(config)) writeFileSync(config, code)
    const env = {
      SUDO_UID: undefined,
      ...(more.includes('sudo') && { SUDO_UID: `${ordinaryUser.uid}` }),
    }
    const args = [...command, ...more.filter((name) => name !== 'sudo')]
    const run = await netimage(args, { cwd, env })
    return { failure: failureOf(run), hasRun: existsSync(mark) }
  }

  test('of our own is run', async () => {
    const { failure, hasRun } = await runAt(made())
    assert.ok(hasRun, failure.message)
  })

  test('of another user is not run, unless it is named', async () => {
    if (!isRoot) return
    const cwd = made()
    const config = join(cwd, 'netimage.config.mjs')
    await runAt(cwd)
    chownSync(config, ordinaryUser.uid, ordinaryUser.gid)
    renameSync(join(cwd, 'mark'), join(cwd, 'old-mark'))
    const { failure, hasRun } = await runAt(cwd)
    assert.ok(!hasRun)
    assert.equal(failure.code, 'bad-config')
    assert.match(failure.hint ?? '', /--config/)
    assert.ok((await runAt(cwd, '--config', './netimage.config.mjs')).hasRun)
    renameSync(join(cwd, 'mark'), join(cwd, 'old-mark'))
    // A config may also belong to the user who ran sudo.
    assert.ok((await runAt(cwd, 'sudo')).hasRun)
  })
})

suite('without a home', () => {
  // The machine does not know this user: HOME is not set, and there is no passwd entry.
  const through = mounted(`
    for file in /etc/passwd /etc/nsswitch.conf; do
      if [ -e "$file" ]; then mount --bind /dev/null "$file"; fi
    done
  `)
  const env = { HOME: undefined, XDG_CACHE_HOME: undefined }

  test('the error asks to name a directory', async () => {
    const run = await netimage(['gc', '--json'], { through, env })
    assert.equal(failureOf(run).code, 'bad-usage', run.stderr)
    assert.match(failureOf(run).hint ?? '', /--pool/)
  })

  test('netimage reads a bucket without credentials', async () => {
    const cache = await startFakeCache(new Map())
    try {
      const store = `s3://bucket?scheme=http&endpoint=${cache.host}`
      const system = `/nix/store/${'a'.repeat(32)}-system`
      const args = ['inspect', system, '--json', '--from', store, '--pool', fresh()]
      const run = await netimage(args, { through, env })
      assert.notEqual(failureOf(run).code, 'internal', run.stderr)
      assert.ok(cache.requests.length > 0)
      assert.ok(cache.requests.every(({ headers }) => headers.authorization === undefined))
    } finally {
      await cache.close()
    }
  })
})

function everything(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).map((name) =>
    join(directory, name),
  )
}

function files(directory: string): string[] {
  return everything(directory).filter((path) => statSync(path).isFile())
}

/**
 * Changes the program's main function, if the entry of Node's cache is that of its module: five
 * words of 32 bits (magic, size of the source, size of the content, CRC of the source, CRC of the
 * content), then the stripped source as text. https://github.com/nodejs/node: compile_cache.cc
 */
function forge(file: string): boolean {
  const entry = readFileSync(file)
  const main = 'export async function main()'
  const text = entry.subarray(headerBytes).toString()
  if (!text.includes(main)) return false
  const content = Buffer.from(`export async function main() { process.stdout.write('forged') }`)
  const header = Buffer.from(entry.subarray(0, headerBytes))
  header.writeUInt32LE(content.length, 8)
  header.writeUInt32LE(crc32(content), 16)
  writeFileSync(file, Buffer.concat([header, content]))
  return true
}

const headerBytes = 20
