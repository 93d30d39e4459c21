// Ctrl-C at every moment of a build leaves nothing behind.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { suite, test } from 'node:test'
import { startFakeCache, type Lie } from '../support/fake-cache.ts'
import { failureOf, netimage, startNetimage, type Run } from '../support/netimage.ts'
import { cacheFiles } from '../support/synthetic.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
import { drip, succeeds, system, withWorkspace, type Setting } from './support/faults.ts'

suite('Ctrl-C', { concurrency: 4 }, () => {
  /** Interrupts a build after a certain request to the server. Returns the end of the build. */
  async function interrupted(
    setting: Setting,
    moment: RegExp,
    lie: Lie,
    signal: NodeJS.Signals = 'SIGINT',
  ): Promise<void> {
    let reached: () => void = () => undefined
    const ready = new Promise<void>((resolve) => (reached = resolve))
    const cache = await startFakeCache(cacheFiles(system.all), {
      async lie(request, honest) {
        if (!moment.test(request.name)) return honest
        reached()
        return await lie(request, honest)
      },
    })
    try {
      const { child, ended } = startNetimage(setting.from(cache.url, '--json'))
      await waitFor('the build asks for that', Promise.race([ready, ended]))
      await assertInterrupted(setting, child.pid, ended, signal)
    } finally {
      await cache.close()
    }
  }

  async function assertInterrupted(
    setting: Setting,
    pid: number | undefined,
    ended: Promise<Run>,
    signal: NodeJS.Signals = 'SIGINT',
    images: string[] = [],
  ): Promise<void> {
    assert.ok(pid !== undefined)
    process.kill(pid, signal)
    const run = await waitFor('the build ends', ended)
    assert.equal(run.status, 130, run.stderr)
    assert.match(run.stderr, /^error: interrupted \[interrupted\]$/m)
    assert.equal(failureOf(run).code, 'interrupted')
    assert.deepEqual([...setting.outputs(), ...setting.leftovers()], images)
  }

  const silence: Lie = () => new Promise(() => undefined)

  test('while a cache does not send its nix-cache-info', () =>
    withWorkspace((setting) => interrupted(setting, /nix-cache-info/, silence)))
  test('while a narinfo does not come', () =>
    withWorkspace((setting) => interrupted(setting, /\.narinfo/, silence)))
  test('while requests are repeated', () =>
    withWorkspace((setting) => interrupted(setting, /\.narinfo/, () => ({ status: 503 }))))
  test('while a NAR does not come', () =>
    withWorkspace((setting) => interrupted(setting, /^nar\//, silence)))
  test('while a NAR comes slowly', () =>
    withWorkspace((setting) =>
      interrupted(setting, /^nar\//, () => ({ status: 200, body: drip() })),
    ))
  test('by SIGTERM', () =>
    withWorkspace((setting) => interrupted(setting, /^nar\//, silence, 'SIGTERM')))

  /** The number of requests: half of the narinfos, half of the NARs, and the last NAR. */
  const [infos, nars, last] = [12, 34, 1 + 2 * system.all.length]
  for (const count of [infos, nars, last]) {
    test(`after ${count} requests, and again in the next build`, () =>
      withWorkspace(async (setting) => {
        let asked = 0
        let reached: () => void = () => undefined
        const cache = await startFakeCache(cacheFiles(system.all), {
          async lie(_, honest) {
            if (++asked === count) {
              reached()
              await new Promise(() => undefined)
            }
            return honest
          },
        })
        try {
          // The second build has some entries in its pool and makes fewer requests.
          for (const left of ['nothing', 'a part']) {
            asked = 0
            const ready = new Promise<void>((resolve) => (reached = resolve))
            const { child, ended } = startNetimage(setting.from(cache.url, '--json'))
            await waitFor('the build asks so often', Promise.race([ready, ended]))
            if (asked >= count) await assertInterrupted(setting, child.pid, ended)
            else assert.equal(left, 'a part', (await ended).stderr)
          }
        } finally {
          await cache.close()
        }
      }))
  }

  test('while the image is made', () =>
    withWorkspace(async (setting) => {
      await succeeds(netimage(setting.args()))
      // The pool is full. The commands that fill the image run until they are ended.
      const begun = setting.path('begun')
      const commands = ['--populate-root-commands', `echo begun > ${begun}; sleep 1000`]
      const { child, ended } = startNetimage(
        setting.args('--json', '-o', setting.path('out', 'other'), ...commands),
      )
      await waitUntil('the commands run', () => existsSync(begun))
      await assertInterrupted(setting, child.pid, ended, 'SIGINT', ['image'])
    }))
})
