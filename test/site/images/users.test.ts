// Which images of a site are in use.

import assert from 'node:assert/strict'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { openSiteDatabase, siteFile } from '../../../src/site/database.ts'
import { beginRollout, stepRollouts } from '../../../src/site/rollout/rollouts.ts'
import type { SiteWriter } from '../../../src/site/statements.ts'
import { readRootImage } from '../../../src/roots/root-image.ts'
import { createImageIndexes } from '../../../src/roots/image-index.ts'
import { removeSnapshot, restoreSnapshot, takeSnapshot } from '../../../src/roots/snapshots.ts'
import { layerOf } from '../../../src/roots/stored-layer.ts'
import { machinesByImage } from '../../../src/site/images/users.ts'
import { makeImage } from '../../roots/support/stored-layers.ts'
import { assignAllowed, candidate } from '../life/support/simulate.ts'
import { group, settings } from '../rollout/support/simulate.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { openMachineLayerNow } from '../../roots/support/open-layer.ts'

const freshName = freshNames(temporaryDirectory())
const machine = 'dc:a6:32:01:02:03'
const system = (digit: number) => `/nix/store/${String(digit).repeat(32)}-system`

test('images of snapshots are in use, also after the machine has others', async () => {
  const state = freshName()
  const images = [0, 1, 2, 3].map((digit) => {
    const directory = makeImage(freshName(), system(digit))
    const rootImage = readRootImage(directory, `${directory}/net-image/pi`)
    const { id } = rootImage
    return { rootImage, known: { directory, name: 'pi', toplevel: system(digit), id } }
  })
  const boot = async (bound: number, ...kept: number[]) => {
    const [image, ...others] = [bound, ...kept].map((number) => images[number] ?? assert.fail())
    assert.ok(image)
    const index = createImageIndexes().open(
      image.rootImage,
      others.map(({ rootImage }) => rootImage),
    )
    const keptImages = others.map(({ known }) => known)
    const request = { state, machine, image: image.known, keptImages, index }
    await openMachineLayerNow(request).close()
    index.close()
  }
  const used = () => {
    const machines = machinesByImage(state, assert.fail)
    return images.map(({ known }) => machines.get(known.id)?.join() === machine)
  }
  const layer = layerOf(state, machine)

  await boot(1, 0)
  await takeSnapshot(layer, 'one')
  await boot(2)
  await boot(3)
  assert.deepEqual(used(), [true, true, false, true])
  await restoreSnapshot(layer, 'one', assert.fail)
  await removeSnapshot(layer, 'one', assert.fail)
  assert.deepEqual(used(), [true, true, false, false])
})

test('the image of the newest roll-out of a group is in use, as long as it is a group', () => {
  const state = freshName()
  const database = openSiteDatabase(state)
  const now = { at: 0, uptime: 0 }
  const assign = (writer: SiteWriter, name: string, image: string) =>
    writer.keep(assignAllowed(writer.of(name), candidate(image), now, 'person').life)
  const change = (action: (writer: SiteWriter) => void) => {
    database.change(action)
    const used = [...machinesByImage(state, assert.fail)]
    return Object.fromEntries(used.map(([id, names]) => [id, names.toSorted().join(' ')]))
  }
  const begun = change((writer) => {
    for (const name of ['pi1', 'pi2']) assign(writer, name, 'old')
    writer.rollouts.setGroups(new Map(['pi1', 'pi2'].map((name) => [name, group])))
    beginRollout(writer, settings([['pi1'], ['pi2']]), new Map(), now)
    stepRollouts(writer, now, assert.ifError)
  })
  assert.deepEqual(begun, { old: 'pi1 pi2', new: 'pi1 pi2' })
  const aborted = change((writer) => {
    const [rollout] = writer.rollouts.read().newest
    assert.ok(rollout)
    writer.rollouts.keep({ ...rollout, state: 'aborted' })
    stepRollouts(writer, now, assert.ifError)
  })
  assert.deepEqual(aborted, { old: 'pi1 pi2', new: 'pi1 pi2' })
  const without = change((writer) => writer.rollouts.setGroups(new Map()))
  assert.deepEqual(without, { old: 'pi1 pi2' })
  database.close()
})

test('a broken row of a roll-out keeps the images in doubt', () => {
  const state = freshName()
  const database = openSiteDatabase(state)
  const now = { at: 0, uptime: 0 }
  database.change((writer) => {
    writer.rollouts.setGroups(new Map([['pi1', group]]))
    beginRollout(writer, settings([['pi1']]), new Map(), now)
  })
  database.close()
  const broken = new DatabaseSync(siteFile(state))
  broken.exec(`UPDATE rollout_machines SET member = '{'`)
  broken.close()
  const errors: string[] = []
  machinesByImage(state, ({ message }) => errors.push(message))
  assert.match(
    errors.join(),
    /^it is not known which images the machines of a roll-out need: .*roll-out 1/,
  )
})
