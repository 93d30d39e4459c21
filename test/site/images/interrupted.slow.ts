// Images are added to a site, received from another one, removed and repaired, and cut off in the middle of that. Each image is there
// whole or not at all, nothing else is changed, and the next try goes on.

import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import { mounted } from '../../support/namespace.ts'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'
import { buildSystem, writeSystems } from './support/made-images.ts'

const program = join(import.meta.dirname, 'support/cut-off-program.ts')
const run = promisify(execFile)

const ways = {
  killed: 'that is killed before any of its steps',
  power: 'in which the power fails at any moment, or at its end',
  full: 'on a full disk',
}

suite('a change of the images of a site', () => {
  let workspace: Workspace
  let images: string[]
  before(async () => {
    workspace = makeWorkspace('site-cut-off')
    writeSystems(workspace)
    images = [
      await buildSystem(workspace, 'first', workspace.path('out/first')),
      await buildSystem(workspace, 'second', workspace.path('out/second')),
    ]
  })
  after(() => workspace.remove())

  for (const [way, what] of Object.entries(ways)) {
    test(`${what} leaves each image whole or absent`, async () => {
      const disk = workspace.path(way)
      mkdirSync(disk)
      const [command = '', ...args] = mounted('mount -t tmpfs memory "$1"', disk)
      const { stdout } = await run(command, [
        ...args,
        process.execPath,
        program,
        disk,
        ...images,
        way,
      ])
      for (const name of ['adds the first image', 'adds another image', 'receives an image']) {
        assert.match(stdout, new RegExp(`^${name}: .*false.* true$`, 'm'))
      }
    })
  }
})
