// A system, a cache with the system, and builds of the system with the program netimage.

import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { after, before } from 'node:test'
import type { Run } from '../../support/netimage.ts'
import { inventLargeSystem, makeKey, writeCache } from '../../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'

export const key = makeKey('faults-1')
export const system = inventLargeSystem('faults', { paths: 20, bytes: 300_000, keys: [key] })

export type Setting = Workspace & {
  /** Arguments for a build: `args` from the cache, `from` from another store. */
  args: (...more: string[]) => string[]
  from: (url: string, ...more: string[]) => string[]
}

let cacheWorkspace: Workspace
/** The directory of the cache with the system. */
export const cacheDirectory = (): string => cacheWorkspace.directory
before(() => {
  cacheWorkspace = makeWorkspace('faults-cache')
  writeCache(cacheWorkspace.directory, system.all)
})
after(() => cacheWorkspace.remove())

export async function withWorkspace(action: (setting: Setting) => Promise<void>): Promise<void> {
  const workspace = makeWorkspace('faults')
  const common = ['build', system.toplevel, '--trusted-public-keys', key.publicKey]
  const places = ['-o', workspace.image, '--pool', workspace.pool]
  const from = (url: string, ...more: string[]) => [...common, ...places, '--from', url, ...more]
  const args = (...more: string[]) => from(`file://${cacheWorkspace.directory}`, ...more)
  try {
    await action({ ...workspace, args, from })
  } finally {
    workspace.remove()
  }
}

export async function succeeds(run: Promise<Run>): Promise<Run> {
  const ended = await run
  assert.equal(ended.status, 0, ended.stderr)
  return ended
}

/** A transfer that never ends and never stalls. */
export async function* drip(): AsyncGenerator<Buffer> {
  for (;;) {
    yield Buffer.from('x')
    await delay(20)
  }
}
