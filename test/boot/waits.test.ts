// iPXE for arm64 as U-Boot can start it. test/e2e/raspberry-pi-uboot.slow.ts lets U-Boot start it.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { removeWaits } from '../../src/boot/waits.ts'
import { fetchFirmware } from '../e2e/support/firmware.ts'
import { netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const { ipxe } = await fetchFirmware()
const debian = readFileSync(join(ipxe, 'ipxe-arm64.efi'))
// The bytes of the instructions, as GNU's assembler writes them.
const [wfi, nop] = [Buffer.from('7f2003d5', 'hex'), Buffer.from('1f2003d5', 'hex')]

async function changed(program: Buffer): Promise<Buffer> {
  const file = freshName()
  writeFileSync(file, program)
  await removeWaits(file, 'the program')
  return readFileSync(file)
}

suite('iPXE for arm64', () => {
  test('of Debian has a wait for an interrupt, and goes on instead', async () => {
    assert.ok(debian.includes(wfi))
    const made = await changed(debian)
    assert.ok(!made.includes(wfi))
    assert.equal(made.length, debian.length)
    for (let at = 0; at < made.length; at += 4) {
      const [before, after] = [debian, made].map((program) => program.subarray(at, at + 4))
      assert.ok(before && after)
      if (!before.equals(after)) assert.deepEqual([before, after], [wfi, nop])
    }
  })

  test('keeps its data, and code that is not an instruction of its own', async () => {
    const program = Buffer.from(debian)
    const at = debian.indexOf(wfi)
    wfi.copy(program, at - 6)
    const text = debian.indexOf('Press Ctrl-B') & ~3
    wfi.copy(program, text)
    const made = await changed(program)
    assert.deepEqual(made.subarray(at - 6, at - 2), wfi)
    assert.deepEqual(made.subarray(text, text + 4), wfi)
    assert.deepEqual(made.subarray(at, at + 4), nop)
  })

  test('stays as it is if it is signed', async () => {
    const program = Buffer.from(debian)
    const header = program.readUInt32LE(0x3c) + 24
    // The fifth of the data directories has the place and the size of the signatures.
    program.writeUInt32LE(8, header + 112 + 4 * 8 + 4)
    assert.deepEqual(await changed(program), program)
  })

  test('that is cut off is refused', async () => {
    await assert.rejects(
      changed(debian.subarray(0, 5000)),
      netimageError('bad-option', /the program/),
    )
  })
})
