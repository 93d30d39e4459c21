// Unified kernel images, read by binutils. test/e2e starts them with firmware.

import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { partBytes, type Part } from '../../src/boot/boot-files.ts'
import { addSections } from '../../src/boot/pe.ts'
import { NetimageError } from '../../src/errors.ts'
import { fetchFirmware } from '../e2e/support/firmware.ts'
import { runProgram } from '../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const freshName = freshNames(directory)

function whole(parts: readonly Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => (Buffer.isBuffer(part) ? part : readFileSync(part.from))),
  )
}

const objdump = (args: string[]) => runProgram('objdump', args)

/** The sections in the list of binutils: name, size, address, place in the file. */
async function listSections(file: string) {
  const output = await objdump(['-h', file])
  const rows = output.matchAll(/^ +\d+ (\S+) +([0-9a-f]+) +([0-9a-f]+) +[0-9a-f]+ +([0-9a-f]+)/gm)
  return [...rows].map(([, name = '', size = '', address = '', place = '']) => ({
    name,
    size: Number.parseInt(size, 16),
    address: Number.parseInt(address, 16),
    place: Number.parseInt(place, 16),
  }))
}

async function sectionContent(file: string, name: string): Promise<Buffer> {
  const target = freshName()
  const args = ['-O', 'binary', '--dump-section', `${name}=${target}`, file, freshName()]
  await runProgram('objcopy', args)
  return readFileSync(target)
}

suite('sections added to systemd’s stub', async () => {
  const { stubs } = await fetchFirmware()
  const stubFile = stubs['x86_64-linux']
  const stub = readFileSync(stubFile)

  test('are read unchanged by binutils, and the stub’s own sections stay', async () => {
    const contents = fc.uint8Array({ maxLength: 9000 })
    const sections = fc.record({ cmdline: contents, initrd: contents, linux: contents })
    await fc.assert(
      fc.asyncProperty(sections, async (given) => {
        const added = Object.entries(given).map(([name, content]) => ({
          name: `.${name}`,
          content: Buffer.concat([Buffer.from([1]), content]),
        }))
        const file = freshName()
        writeFileSync(file, whole(addSections(stub, added, stubFile)))
        const before = await listSections(stubFile)
        const after = await listSections(file)
        const names = [...before.map(({ name }) => name), ...added.map(({ name }) => name)]
        assert.deepEqual(
          after.map(({ name }) => name),
          names,
        )
        for (const { name, content } of added) {
          const found = await sectionContent(file, name)
          assert.deepEqual(found.subarray(0, content.length), content)
          // Zeros fill the section up to the file's alignment.
          assert.ok(found.subarray(content.length).every((byte) => byte === 0))
        }
        for (const { name, address } of before) {
          assert.equal(after.find((section) => section.name === name)?.address, address)
          assert.deepEqual(await sectionContent(file, name), await sectionContent(stubFile, name))
        }
        const addresses = after.map(({ address, size }) => [address, address + size] as const)
        for (const [index, [start]] of addresses.entries()) {
          const previous = addresses[index - 1]
          assert.ok(previous === undefined || previous[1] <= start, 'sections overlap')
        }
      }),
      { numRuns: 8 },
    )
  })

  test('give the same bytes each time, from files and from buffers', () => {
    const file = join(directory, 'kernel')
    writeFileSync(file, 'a kernel')
    const fromFile = addSections(
      stub,
      [{ name: '.linux', content: { from: file, size: 8 } }],
      stubFile,
    )
    const content = Buffer.from('a kernel')
    const fromBytes = addSections(stub, [{ name: '.linux', content }], stubFile)
    assert.deepEqual(whole(fromFile), whole(fromBytes))
    assert.deepEqual(whole(fromFile), whole(fromFile))
    assert.equal(
      fromFile.reduce((sum, part) => sum + partBytes(part), 0),
      whole(fromFile).length,
    )
  })

  test('can be added to a stub of another architecture', async () => {
    const arm = stubs['aarch64-linux']
    const file = freshName()
    const added = [{ name: '.linux', content: Buffer.from('a kernel') }]
    writeFileSync(file, whole(addSections(readFileSync(arm), added, arm)))
    assert.match(await objdump(['-f', '-b', 'binary', file]), /file format binary/)
    assert.equal(readFileSync(file).includes('a kernel'), true)
  })

  test('fail with a NetimageError if the stub is damaged', () => {
    const position = fc.nat({ max: 1023 })
    fc.assert(
      fc.property(position, fc.nat({ max: 255 }), fc.nat({ max: stub.length }), (at, byte, cut) => {
        const damaged = Buffer.from(stub.subarray(0, cut))
        if (at < damaged.length) damaged[at] = byte
        try {
          addSections(damaged, [{ name: '.linux', content: Buffer.from('kernel') }], 'a stub')
        } catch (error) {
          assert.ok(error instanceof NetimageError, String(error))
        }
      }),
      { numRuns: 2000 },
    )
  })
})
