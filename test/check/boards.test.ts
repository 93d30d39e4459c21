// The NixOS module puts into stage 1 the modules that the check requires.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import * as v from 'valibot'
import { boards, type KernelOrigin } from '../../src/check/boards.ts'
import { repository } from '../support/netimage.ts'
import { runProgram } from '../support/real-nix.ts'

const modules = v.optional(v.array(v.string()), [])
const boardsSchema = v.record(
  v.string(),
  v.object({
    isRaspberryPi: v.boolean(),
    modules,
    ofKernelOrg: modules,
    ofRaspberryPiKernel: modules,
  }),
)

test('the NixOS module has the modules that the check requires, for each board', async () => {
  const file = join(repository, 'nix/boards.nix')
  const text = await runProgram('nix-instantiate', ['--eval', '--strict', '--json', file])
  const ofModule = v.parse(boardsSchema, JSON.parse(text))
  const pis = Object.entries(ofModule).filter(([, { isRaspberryPi }]) => isRaspberryPi)
  const names = boards.map(({ name }) => name.toLowerCase().replaceAll(' ', '-'))
  assert.deepEqual(pis.map(([name]) => name).toSorted(), names.toSorted())

  for (const [index, { networks }] of boards.entries()) {
    const board = ofModule[names[index] ?? '']
    assert.ok(board)
    const more = { 'kernel.org': board.ofKernelOrg, 'Raspberry Pi': board.ofRaspberryPiKernel }
    const kernels: KernelOrigin[] = ['kernel.org', 'Raspberry Pi']
    for (const kernel of kernels) {
      const asked = networks.filter((network) => (network.kernel ?? kernel) === kernel)
      const given: string[] = [...board.modules, ...more[kernel]].map((name) =>
        name.replaceAll('-', '_'),
      )
      // The driver of the PHY. Without it the kernel uses a general driver.
      const needed = given.filter((name) => name !== 'broadcom')
      assert.deepEqual(needed.toSorted(), asked.flatMap((each) => each.modules).toSorted())
    }
  }
})
