// One system, the cache that has it, and builds of it by the program itself.

import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import { after, before } from 'node:test'
import type { Run } from '../../support/netimage.ts'
import { inventLargeSystem, makeKey, writeCache } from '../../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'

export const key = makeKey('faults-1')
export const system = inventLargeSystem('faults', { paths: 20, bytes: 300_000, keys: [key] })

export type Setting = Workspace & {
  /** Builds from the cache in the directory, or from another. */
  args: (...more: string[]) => string[]
  from: (url: string, ...more: string[]) => string[]
}

let cacheWorkspace: Workspace
/** Of the cache that has the system. */
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
    await workspace.remove()
  }
}

export async function succeeds(run: Promise<Run>): Promise<Run> {
  const ended = await run
  assert.equal(ended.status, 0, ended.stderr)
  return ended
}

/** A transfer that goes on for ever, and never seems to be broken. */
export async function* drip(): AsyncGenerator<Buffer> {
  for (;;) {
    yield Buffer.from('x')
    await delay(20)
  }
}
