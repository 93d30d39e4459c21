// Secrets that a person put into the state directory: which files the server takes.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import type { NetimageError } from '../../src/errors.ts'
import { readSecrets } from '../../src/site/machine-secrets.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const machine = 'dc:a6:32:01:02:03'

function fresh() {
  const state = freshName()
  const directory = join(state, 'secrets/dc-a6-32-01-02-03')
  mkdirSync(directory, { recursive: true, mode: 0o755 })
  const put = (name: string | Buffer, content: string | Uint8Array = 'x', mode = 0o400) => {
    const path = Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name)])
    writeFileSync(path, content)
    chmodSync(path, mode)
  }
  const look = () => {
    const problems: NetimageError[] = []
    const found = [...readSecrets({ state, machine }, (error) => problems.push(error))]
    const names = Object.fromEntries(
      found.map(({ name, bytes }) => [name.toString(), bytes.toString()]),
    )
    assert.ok(problems.length <= 1)
    return { names, found, problem: problems[0]?.message ?? '' }
  }
  return { state, directory, put, look }
}

suite('the secrets of a machine', () => {
  test('are regular files that nobody else may read', () => {
    const { directory, put, look } = fresh()
    put('a', 'A')
    put('b', '', 0o600)
    for (const mode of [0o440, 0o404, 0o420, 0o402, 0o601])
      put(`mode-${mode.toString(8)}`, 'x', mode)
    const { names, problem } = look()
    assert.deepEqual(names, { a: 'A', b: '' })
    assert.match(problem, /mode-402: other users may read or change it \(mode 402\); mode-404: /)
    chmodSync(directory, 0o777)
    assert.deepEqual(look().names, {})
    assert.match(look().problem, /03: other users may change it \(mode 777\)$/)
  })

  test('are not there if there is no directory', () => {
    const { state, directory, look } = fresh()
    assert.deepEqual(look(), { names: {}, found: [], problem: '' })
    renameSync(directory, freshName())
    assert.deepEqual(look(), { names: {}, found: [], problem: '' })
    renameSync(join(state, 'secrets'), freshName())
    assert.deepEqual(look(), { names: {}, found: [], problem: '' })
  })

  test('follow no links, have no second names, and are no FIFOs, devices or directories', () => {
    const { directory, put, look } = fresh()
    const outside = freshName()
    writeFileSync(outside, 'outside', { mode: 0o400 })
    symlinkSync(outside, join(directory, 'link'))
    linkSync(outside, join(directory, 'hard'))
    execFileSync('mkfifo', ['-m', '0400', join(directory, 'fifo')])
    mkdirSync(join(directory, 'folder'), { mode: 0o700 })
    put('z', 'Z')
    const { names, problem } = look()
    assert.deepEqual(names, { z: 'Z' })
    assert.match(
      problem,
      /fifo: it is no file; folder: it is no file; hard: it has several names .*; link: it is a symbolic link$/,
    )
  })

  test('are not those of a linked directory', () => {
    for (const [linked, why] of [
      ['secrets/dc-a6-32-01-02-03', /03: it is no directory, or a link$/],
      ['secrets', /03: the one above it is no directory$/],
    ] as const) {
      const { state, put, look } = fresh()
      put('a')
      const moved = freshName()
      renameSync(join(state, linked), moved)
      symlinkSync(moved, join(state, linked))
      const { names, problem } = look()
      assert.deepEqual(names, {})
      assert.match(problem, why)
    }
  })

  test('belong to root or to the user of the server', () => {
    const { directory, put, look } = fresh()
    put('a')
    put('b')
    assert.deepEqual(look().names, { a: 'x', b: 'x' })
    const isRoot = process.getuid?.() === 0
    if (isRoot) chownSync(join(directory, 'a'), 12_345, 0)
    else Reflect.set(process, 'geteuid', () => 12_345)
    const { names, problem } = look()
    if (!isRoot) Reflect.deleteProperty(process, 'geteuid')
    assert.deepEqual(names, isRoot ? { b: 'x' } : {})
    assert.match(problem, /it belongs to another user \(uid \d+\)/)
  })

  test('have a limit for each and for all', () => {
    const { put, look } = fresh()
    put('large', Buffer.alloc(2 ** 20 + 1))
    put('largest', Buffer.alloc(2 ** 20, 'x'))
    const { names, problem } = look()
    assert.deepEqual(Object.keys(names), ['largest'])
    assert.match(problem, /large: it has more than 1048576 bytes$/)
    for (let count = 0; count < 1010; count++) put(`s${String(count).padStart(4, '0')}`)
    const all = look()
    assert.equal(all.found.length, 999)
    assert.match(all.problem, /; the last 12: there are more than 1000 files$/)
  })

  test('can have any name, which never controls a terminal', () => {
    const name = fc
      .uint8Array({ minLength: 1, maxLength: 60 })
      .map((bytes) => Buffer.from(bytes.map((byte) => (byte === 0 || byte === 47 ? 46 : byte))))
      .filter((bytes) => !['.', '..'].includes(bytes.toString('latin1')))
    fc.assert(
      fc.property(name, fc.boolean(), (bytes, isRefused) => {
        const { put, look } = fresh()
        put(bytes, 'x', isRefused ? 0o444 : 0o400)
        const { found, problem } = look()
        if (!isRefused)
          assert.deepEqual(
            found.map((each) => each.name),
            [bytes],
          )
        assert.equal(problem !== '', isRefused)
        assert.doesNotMatch(problem, /[\u0000-\u001f\u007f-\u009f\u202e]/)
      }),
      { numRuns: 60 },
    )
  })
})
