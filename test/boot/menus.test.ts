// Any names, labels and kernel parameters of a system are either refused when the system is read,
// or no loader reads a part of them as something else.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import type { BootFile } from '../../src/boot/boot-files.ts'
import { extlinuxFiles } from '../../src/boot/extlinux.ts'
import { escaped, ipxeFiles, settingLines } from '../../src/boot/ipxe.ts'
import { raspberryPiFiles } from '../../src/boot/raspberry-pi.ts'
import { menuEntries, type BootRequest } from '../../src/boot/request.ts'
import { fallbackRelease } from '../../src/boot/uefi.ts'
import { parseBootspec } from '../../src/nixos/bootspec.ts'
import { parseNfsRoot } from '../../src/nixos/nfs-root.ts'
import { fetchFirmware } from '../e2e/support/firmware.ts'
import { assertError, netimageError } from '../support/errors.ts'
import { findProgram } from '../support/packages.ts'
import { storePath } from '../support/path-infos.ts'
import { runProgram } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const file = join(directory, 'file')
writeFileSync(file, '')
const toplevel = storePath(`/nix/store/${'1'.repeat(32)}-nixos-system-host-25.11`)
const kernel = `/nix/store/${'2'.repeat(32)}-linux-6.12.9/bzImage`

type Texts = { name: string; label: string; kernelParams: string[] }

const lineBreaks = [
  '\n',
  '\r',
  '\r\n',
  '\0',
  '\v',
  '\f',
  '\x1b',
  '\x7f',
  '\x85',
  '\u2028',
  '\u2029',
]
const inIpxe = ['${', '${net0/ip}', '||', '&&', ';', '#', ' # ', ' ; ', ' || ', '\\', ':failed']
const elsewhere = [
  '\nLABEL x',
  ' ',
  '\t',
  '"',
  "'",
  '^',
  '$',
  '`',
  '/',
  '..',
  '.',
  'a',
  'default',
  'é',
]

const text = fc
  .array(
    fc.oneof(
      { weight: 1, arbitrary: fc.constantFrom(...lineBreaks) },
      { weight: 8, arbitrary: fc.constantFrom(...inIpxe, ...elsewhere) },
      { weight: 8, arbitrary: fc.string({ unit: 'grapheme-ascii', maxLength: 4 }) },
    ),
    { maxLength: 4 },
  )
  .map((parts) => parts.join(''))
const texts: fc.Arbitrary<Texts> = fc.record({
  name: text,
  label: text,
  kernelParams: fc.array(text, { maxLength: 3 }),
})
const plain: Texts = { name: 'serial', label: 'NixOS', kernelParams: ['quiet'] }

/** @throws the errors of parseBootspec */
function requestFor({ name, label, kernelParams }: Texts): BootRequest {
  const init = `${toplevel}/init`
  const v1 = { init, kernel, initrd: kernel, kernelParams, label, system: 'x86_64-linux', toplevel }
  const special = { 'org.nixos.bootspec.v1': v1 }
  const document = { ...special, 'org.nixos.specialisation.v1': { [name]: special } }
  const bootspec = parseBootspec(JSON.stringify(document), 'the-bootspec')
  assert.ok(bootspec)
  const specialisations = [...bootspec.specialisations]
  return {
    system: {
      toplevel,
      label: '25.11',
      platform: 'x86_64-linux',
      entries: [
        bootspec,
        ...specialisations.map(([specialisation, child]) => ({ ...child, specialisation })),
      ],
      fileSystems: [],
    },
    nfsRoot: parseNfsRoot('10.0.0.5:/srv,v3'),
    settings: {},
    find: (path) => Promise.resolve({ path, real: file, kind: 'file' }),
    warn: () => {},
  }
}

function textOf(files: readonly BootFile[], path: string): string {
  const content = files.find((each) => each.path === path)?.content
  assert.ok(content?.kind === 'text', path)
  return content.text
}

/** @returns how often the texts were accepted, so that `check` ran */
async function forAccepted(check: (request: BootRequest) => Promise<void>): Promise<number> {
  let accepted = 0
  const property = fc.asyncProperty(texts, async (given) => {
    let request: BootRequest
    try {
      request = requestFor(given)
    } catch (error) {
      assertError(error, 'bad-system')
      return
    }
    accepted++
    await check(request)
  })
  await fc.assert(property, { numRuns: 1000 })
  return accepted
}

suite('names, labels and kernel parameters', () => {
  test('are refused if they have a character that may end a line', () => {
    for (const character of lineBreaks) {
      for (const key of ['name', 'label'] as const) {
        assert.throws(
          () => requestFor({ ...plain, [key]: `a${character}b` }),
          netimageError('bad-system', /^the bootspec the-bootspec is broken: /),
        )
      }
      assert.throws(
        () => requestFor({ ...plain, kernelParams: ['quiet', `a${character}b`] }),
        netimageError('bad-system', /kernelParams\.1: the text has a control character/),
      )
    }
  })

  test('of specialisations are refused if no directory can have the name', () => {
    for (const name of ['', '.', '..', '/', 'a/b', '../a']) {
      assert.throws(() => requestFor({ ...plain, name }), netimageError('bad-system', /the name/))
    }
    for (const name of ['a name with blanks', '...', 'default', 'failed', 'é', '#1']) {
      assert.equal(requestFor({ ...plain, name }).system.entries.length, 2)
    }
  })

  test('never change which lines extlinux and pxelinux read', async () => {
    const keywords = (menu: string) => menu.split(/[\n\r\v\f]/).map((line) => /^\s*\S*/.exec(line))
    const usual = await extlinuxFiles(requestFor(plain))
    const accepted = await forAccepted(async (request) => {
      const files = await extlinuxFiles(request)
      for (const path of ['extlinux/extlinux.conf', 'pxelinux.cfg/default']) {
        const menu = textOf(files, path)
        assert.deepEqual(keywords(menu).map(String), keywords(textOf(usual, path)).map(String))
        const lines = [...menu.matchAll(/^ {2}APPEND (.*)$/gm)].map(([, line]) => line)
        assert.deepEqual(
          lines,
          menuEntries(request).map(({ kernelLine }) => kernelLine),
        )
      }
    })
    assert.ok(accepted > 50)
  })

  test('are one line in a Raspberry Pi’s cmdline.txt', async () => {
    await forAccepted(async (request) => {
      const system = { ...request.system, platform: 'aarch64-linux' }
      const files = await raspberryPiFiles({ ...request, system })
      const [main] = menuEntries(request)
      assert.equal(textOf(files, 'cmdline.txt'), `${main?.kernelLine}\n`)
    })
  })

  test('never change which commands iPXE reads, or are refused', async () => {
    const usual = readScript(textOf(await ipxeFiles(requestFor(plain)), 'boot.ipxe'))
    let refused = 0
    const accepted = await forAccepted(async (request) => {
      const entries = menuEntries(request)
      let script: string
      try {
        script = textOf(await ipxeFiles(request), 'boot.ipxe')
      } catch (error) {
        assertError(error, 'bad-system', /iPXE cannot pass/)
        const mayBeLost = /\$\{|"[^]*(?:\s{2}|[^\S ])/
        assert.ok(entries.some(({ kernelLine }) => mayBeLost.test(kernelLine)))
        refused++
        return
      }
      const commands = readScript(script)
      const withArguments = new Set(['item', 'kernel'])
      const shape = (list: string[][]) =>
        list.map((words) => (withArguments.has(words[0] ?? '') ? words.slice(0, 2) : words))
      assert.deepEqual(shape(commands), shape(usual))
      const kernels = commands.filter(([name]) => name === 'kernel').map((words) => words.slice(2))
      assert.deepEqual(
        kernels,
        entries.map(({ kernelLine }) => ipxeWords(`initrd=initrd ${kernelLine}`)),
      )
    })
    assert.ok(refused > 0 && accepted - refused > 50, `${refused} of ${accepted} refused`)
  })

  test('arrive unchanged through iPXE itself', async () => {
    const { ipxe } = await fetchFirmware()
    const printed = fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 3 })
    const word = fc.oneof(
      fc.constantFrom('#', '#x', ';', '&&', '||', '\\', '$', 'x;', '-n'),
      printed,
    )
    const words = fc.array(word, { minLength: 1, maxLength: 6 }).map((list) => list.join(' '))
    const lines = fc.sample(words, 100).filter((line) => !line.includes('${'))
    const commands = lines.map((line) => `echo < ${escaped(line)} >`)
    const script = join(directory, 'script.ipxe')
    // The serial line sends the last output late.
    const end = ['sleep 1', 'poweroff', '']
    // Sometimes the BIOS writes a character twice, or moves the cursor in the middle of a line.
    const thrice = [...commands, ...commands, ...commands]
    const text = ['#!ipxe', ...settingLines(commands), ...thrice, ...end]
    writeFileSync(script, text.join('\n'))
    const files = ['-kernel', join(ipxe, 'ipxe.lkrn'), '-initrd', script]
    const board = ['-machine', 'q35,graphics=off', '-accel', 'tcg', '-m', '256', '-nodefaults']
    const console = ['-display', 'none', '-serial', 'stdio']
    const qemu = findProgram('qemu-system-x86_64')
    const output = await runProgram(qemu, [...board, ...console, ...files])
    const printedLines = new Set(output.split(/\r?\n/))
    const expected = lines.map((line) => ipxeWords(`< ${line} >`).join(' '))
    assert.deepEqual(
      expected.filter((line) => !printedLines.has(line)),
      [],
    )
  })

  test('are read by a shell from the os-release of a unified kernel image', async () => {
    const labels = fc
      .sample(text, 200)
      .filter((label) => !/[\p{Cc}\p{Zl}\p{Zp}]/u.test(label))
      .concat('$(exit 1)', '`exit 1`', '"; exit 1 #', '\\', '$HOME')
    for (const [index, label] of labels.entries()) {
      writeFileSync(join(directory, `release-${index}`), fallbackRelease(label))
    }
    const script = 'for i in $(seq 0 "$2"); do . "$1-$i"; printf "%s\\n" "$VERSION_ID"; done'
    const release = join(directory, 'release')
    const output = await runProgram('sh', ['-euc', script, 'sh', release, `${labels.length - 1}`])
    assert.deepEqual(output.split('\n').slice(0, labels.length), labels)
  })
})

/** Splits a line into words like iPXE, at the blanks of C's isspace. */
function ipxeWords(line: string): string[] {
  return line.split(/[ \t\n\v\f\r]+/).filter((word) => word !== '')
}

/** Splits a script into commands like iPXE. The test above runs iPXE itself. */
function readScript(script: string): string[][] {
  const settings = new Map<string, string>()
  const commands: string[][] = []
  for (const line of script.replaceAll('\\\n', '').split('\n')) {
    const [first, setting = '', bytes = ''] = ipxeWords(line)
    if (first === 'set') {
      const value = Buffer.from(bytes.replaceAll(':', ''), 'hex').toString()
      settings.set(`\${${setting.replace(/:hex$/, '')}:string}`, value)
      continue
    }
    let command: string[] = []
    commands.push(command)
    for (const word of ipxeWords(line)) {
      if (word.startsWith('#')) break
      if (['||', '&&', ';'].includes(word)) commands.push((command = []))
      else command.push(word.replace(/\$\{\w+:string\}/g, (name) => settings.get(name) ?? name))
    }
  }
  return commands
}
