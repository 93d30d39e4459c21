// A server gives the memory back that it does not use any more.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { test } from 'node:test'
import * as v from 'valibot'
import { keepGivingBackMemory } from '../src/give-back-memory.ts'
import { buildAddon } from './protocols/support/addon.ts'
import { temporaryDirectory } from './support/temporary.ts'

const addon = buildAddon()

/**
 * Takes memory in small pieces, and frees all but every hundredth. The C library cannot give back what is
 * before a piece that lives on. Tells how many mebibytes of memory that no file has the process has: before it gives
 * memory back, and after that.
 */
const program = `
  import { readFileSync } from 'node:fs'
  import { createRequire } from 'node:module'
  const { giveBackMemory } = createRequire(import.meta.url)(process.argv[1])
  const held = () => Number(/^RssAnon:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024
  const pieces = Array.from({ length: 50_000 }, () => Buffer.allocUnsafeSlow(4000).fill(1))
  const kept = pieces.filter((_, index) => index % 100 === 0)
  pieces.length = 0
  gc()
  await new Promise((resolve) => setImmediate(resolve))
  const before = held()
  giveBackMemory()
  console.log(before, held(), kept.length)
`

test('free memory goes back to the kernel', () => {
  const args = ['--expose-gc', '--input-type=module', '-e', program, addon]
  const output = execFileSync(process.execPath, args, { encoding: 'utf8' })
  const [before = 0, after = 0] = output.trim().split(' ').map(Number)
  assert.ok(before - after > 100, `of ${before} MiB, ${after} MiB are left`)
})

const Given = v.object({ given: v.array(v.number()) })

test('it does so again and again', ({ mock }) => {
  mock.timers.enable({ apis: ['setInterval'] })
  const file = join(temporaryDirectory(), 'counts.cjs')
  writeFileSync(file, 'exports.given = []; exports.giveBackMemory = () => exports.given.push(1)')
  keepGivingBackMemory(file)
  const given = () => v.parse(Given, createRequire(import.meta.url)(file)).given.length
  assert.equal(given(), 0)
  mock.timers.tick(60_000)
  assert.equal(given(), 30)
})

test('without the addon, nothing is done', ({ mock }) => {
  const setTimer = mock.method(globalThis, 'setInterval')
  keepGivingBackMemory('/nonexistent.node')
  assert.equal(setTimer.mock.callCount(), 0)
})
