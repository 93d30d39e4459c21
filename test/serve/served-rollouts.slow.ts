// Roll-outs of `netimage serve` to machines that boot by HTTP and NFS. Each machine checks that its loader,
// kernel, initrd and root are of one generation, and that each of its boots counts once.

import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { before, suite, test } from 'node:test'
import { imageIds } from '../../src/site/images/site-image.ts'
import { modelDirectory } from '../roots/support/layer-model.ts'
import {
  readData,
  readListing,
  wanted,
  wide,
  type NfsClient,
} from '../protocols/support/nfs-client.ts'
import { netimage, netimageJson } from '../support/netimage.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { addFleetImages, type MarkedImage } from './support/fleet-images.ts'
import { comesUp, fleetWaves, randomPlans, rollOutToFleet } from './support/fleet-rollouts.ts'
import type { ServedFleet } from './support/served-fleet.ts'

const directory = modelDirectory()

/** As names from the root. */
const ownFiles = [
  ['etc', 'machine-id'],
  ['etc', 'ssh_host_ed25519_key'],
  ['var', 'orders'],
] as const
interface Mounted {
  client: NfsClient
  root: Buffer
}

/** @returns what the machine has written into its own files */
async function makeOwn({ client, root }: Mounted): Promise<string[]> {
  const written: string[] = []
  for (const [folder, name] of ownFiles) {
    await client.ask('MKDIR', [root, folder, wanted({ mode: 0o755 })])
    const within = await client.find(root, folder)
    await client.done('CREATE', [within, name, 0, wanted({ mode: 0o600 })])
    const text = randomUUID()
    await client.done('WRITE', [await client.find(within, name), wide(0), text.length, 2, text])
    written.push(text)
  }
  return written
}

async function readOwn({ client, root }: Mounted): Promise<string[]> {
  const read: string[] = []
  for (const names of ownFiles) {
    const reader = await client.done('READ', [await client.find(root, ...names), wide(0), 100])
    read.push(readData(reader).toString())
  }
  return read
}

/** NF3DIR, NF3REG */
const [aDirectory, aFile] = [2, 1]

/** Reads all files below a directory. @throws if the server refuses any of it */
async function md5Below(client: NfsClient, top: Buffer): Promise<string> {
  const [hash, ends] = [createHash('md5'), new Set(['.', '..'])]
  async function take(directory: Buffer): Promise<void> {
    const listing = readListing(await client.done('READDIR', [directory, wide(0), wide(0), 65_536]))
    assert.ok(listing.isEnd)
    const names = listing.entries.map(({ name }) => name.toString())
    for (const name of names.filter((each) => !ends.has(each)).toSorted()) {
      const handle = await client.find(directory, name)
      const { type } = await client.attributes(handle)
      hash.update(`${name} ${type} `)
      if (type === aDirectory) await take(handle)
      if (type !== aFile) continue
      hash.update(readData(await client.done('READ', [handle, wide(0), 65_536])))
    }
  }
  await take(top)
  return hash.digest('hex')
}

suite('roll-outs to machines that boot by HTTP and NFS', { concurrency: 1 }, () => {
  let workspace: Workspace
  let prepared: string
  let images: MarkedImage[]

  before(async () => {
    workspace = makeWorkspace('rollouts', directory)
    prepared = workspace.path('prepared')
    images = await addFleetImages(workspace, prepared, 3)
  })

  /** In the order in which machines get them. */
  function imagesToGive() {
    const [a, b, c, d, e, f] = images
    return a && b && c && d && e && f ? { a, b, c, d, e, f } : assert.fail()
  }

  const good = (image: MarkedImage) => ({ image, isCanaryBad: false, does: new Map() })
  const collect = async (state: string) =>
    (await netimageJson(['site', 'gc', '--state', state]))['removedImages']

  // bench/serve-killed.ts does the same for 1,000 kills.
  test('end through kills of the server as without them', async () => {
    const { a, b } = imagesToGive()
    const [machines, seed] = [10, 1]
    const plans = randomPlans([b], machines, seed)
    const waves = fleetWaves(machines)
    const request = { prepared, images, machines, seed, old: a, plans, waves, workers: 0 }
    const calm = await rollOutToFleet({ ...request, state: workspace.path('calm') })
    assert.equal(calm.kills, 0)
    const killed = await rollOutToFleet({
      ...request,
      state: workspace.path('killed'),
      killOneIn: 25,
    })
    assert.ok(killed.kills > 5, String(killed.kills))
    assert.deepEqual([killed.ends, killed.rollouts], [calm.ends, calm.rollouts])
  })

  test('bring an image to ten machines, two at once, and each keeps what is its own', async () => {
    const { a, b } = imagesToGive()
    const state = workspace.path('ten')
    const all = [...Array(10).keys()]
    const waves = [[0], [1, 2, 3], [4, 5, 6, 7, 8, 9]]
    const machines: string[] = []
    const own = new Map<string, string[]>()
    await rollOutToFleet({
      ...{ state, prepared, images, machines: all.length, seed: 1, old: a, workers: 0 },
      ...{ plans: [good(b)], waves, misses: 0, maxUnavailable: 2, hasCommands: () => true },
      async beforeAll(fleet) {
        for (const index of all) {
          const machine = fleet.machineOf(index)
          machines.push(machine)
          own.set(machine, await makeOwn(fleet.mountedBy(machine)))
        }
      },
      async beforeReturn(fleet) {
        for (const [machine, files] of own) {
          assert.deepEqual(await readOwn(fleet.mountedBy(machine)), files, machine)
        }
      },
    })
    assert.equal(new Set([...own.values()].flat()).size, ownFiles.length * all.length)

    const { stdout } = await netimage(['site', 'log', '-n', '200', '--state', state])
    const asked = new Set<string>()
    const isGood = new Set<string>()
    const namesOf = (indexes: readonly number[]) =>
      indexes.map((each) => machines[each] ?? '').toSorted()
    let [wave, most] = [0, 0]
    for (const row of stdout.split('\n')) {
      const [, machine = ''] = /the server {2}([\d.]+): /.exec(row) ?? []
      if (/ roll-out 1 of lab begins wave /.test(row)) {
        assert.deepEqual([...isGood].toSorted(), namesOf(waves.slice(0, ++wave).flat()))
      } else if (row.endsWith(' roll-out 1 of lab asks it to restart')) {
        asked.add(machine)
        assert.ok(namesOf(waves[wave] ?? []).includes(machine), row)
      } else if (row.endsWith(' generation 2 is good: the machine was up, and stayed up')) {
        isGood.add(machine)
      }
      most = Math.max(most, asked.size - isGood.size)
    }
    assert.deepEqual([wave, most, isGood.size], [2, 2, all.length], stdout)
  })

  const lateEnds = [
    { what: 'and gets the newest image', isBroken: false },
    { what: 'and goes back to its own image if the newest is bad on it', isBroken: true },
  ]
  for (const { what, isBroken } of lateEnds) {
    test(`a machine may be off for four images, of which two are removed meanwhile, ${what}`, async () => {
      const { a, b, c, d, e, f } = imagesToGive()
      const state = workspace.path(`late-${isBroken}`)
      const machines = 5
      const crashes = { ...comesUp(e), behaviour: 'crash' } as const
      const last = { ...good(e), does: new Map(isBroken ? [[machines - 1, crashes]] : []) }
      const { ends } = await rollOutToFleet({
        ...{ state, prepared, images, machines, seed: 1, old: a, workers: 0 },
        ...{
          plans: [good(b), good(c), good(d), last],
          waves: [[0, 1, 2, 3, 4]],
          keep: 0,
          misses: 4,
        },
        async beforeReturn() {
          // Nobody has had the last one. A running machine keeps what it booted before.
          assert.deepEqual(await collect(state), [b.image, c.image, f.image].toSorted())
        },
      })
      const verdicts = [`${a.image} good`, `${e.image} ${isBroken ? 'bad' : 'good'}`]
      const tried = ends.at(-1)?.verdicts.filter((each) => !each.endsWith(' trial'))
      assert.deepEqual(tried, verdicts)
    })
  }

  test('leave 50 machines their files while a garbage collection removes what only others had', async () => {
    const { a, b, c, d, e, f } = imagesToGive()
    const [state, machines] = [workspace.path('gc'), 51]
    let [rollouts, removed]: [number, unknown] = [0, undefined]

    /** All machines read all files of their stores again and again. */
    async function collectWhileAllRead(fleet: ServedFleet): Promise<void> {
      let isOver = false
      async function reads(machine: string) {
        const { client, root } = fleet.mountedBy(machine)
        const store = await client.find(root, 'nix', 'store')
        const before = await md5Below(client, store)
        while (!isOver) assert.equal(await md5Below(client, store), before, machine)
        // Once more, after all that is removed is gone.
        assert.equal(await md5Below(client, store), before, machine)
      }
      const reading = Promise.all(
        [...Array(machines).keys()].map((each) => reads(fleet.machineOf(each))),
      )
      removed = await Promise.race([collect(state), reading.then(() => assert.fail())])
      isOver = true
      await reading
    }

    await rollOutToFleet({
      ...{ state, prepared, images, machines, seed: 1, old: a, workers: 0 },
      // Only the first machine is of the group.
      ...{ plans: [good(b), good(c), good(d)], waves: [[0]], keep: 0, misses: 0 },
      async beforeReturn(fleet) {
        if (++rollouts === 3) await collectWhileAllRead(fleet)
      },
    })
    // The running machine keeps what it booted before.
    assert.deepEqual(removed, [b.image, e.image, f.image].toSorted())
    assert.deepEqual(imageIds(state), [a.image, c.image, d.image].toSorted())
  })
})
