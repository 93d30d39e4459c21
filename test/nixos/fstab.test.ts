// findmnt reads fstab with libmount, like mount.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import * as v from 'valibot'
import { fileSystemAt, parseFstab } from '../../src/nixos/fstab.ts'
import { runProgram } from '../support/real-nix.ts'
import { filterThrough } from '../support/programs.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const file = join(temporaryDirectory(), 'fstab')
const optionalText = v.nullable(v.string())
const foundSchema = v.object({
  filesystems: v.array(
    v.object({
      source: optionalText,
      target: v.string(),
      fstype: v.string(),
      options: optionalText,
    }),
  ),
})

/** Each file system as device, mount point, type and options. */
async function readByMount(text: string): Promise<string[][]> {
  writeFileSync(file, text)
  const columns = ['--output', 'SOURCE,TARGET,FSTYPE,OPTIONS']
  const output = await filterThrough('findmnt', [
    '--tab-file',
    file,
    '--list',
    '--json',
    ...columns,
  ])
  const { filesystems } = v.parse(foundSchema, JSON.parse(output.toString()))
  return filesystems.map(({ source, target, fstype, options }) => {
    return [source ?? '', target, fstype, options ?? 'defaults']
  })
}

function readByUs(text: string): string[][] {
  return parseFstab(text).map(({ device, mountPoint, type, options }) => {
    return [device, mountPoint, type, options.join(',')]
  })
}

const nixos = `# This is a generated file.  Do not edit!
#
# To make changes, edit the fileSystems and swapDevices NixOS options
# in your /etc/nixos/configuration.nix file.
#
# <file system> <mount point>   <type>  <options>       <dump>  <pass>

# Filesystems.
192.168.0.108:/mnt/nfsshare/nixos-net-image / nfs x-initrd.mount,nfsvers=3,nolock,ro 0 0
tmpfs /var tmpfs mode=0755,size=50% 0 0
/dev/disk/by-label/my\\040disk /mnt/my\\040data ext4 defaults 0 2
overlay /nix/store overlay lowerdir=/a\\054b,upperdir=/c 0 0

# Swap devices.
`

test('an fstab of NixOS', async () => {
  assert.deepEqual(readByUs(nixos), [
    [
      '192.168.0.108:/mnt/nfsshare/nixos-net-image',
      '/',
      'nfs',
      'x-initrd.mount,nfsvers=3,nolock,ro',
    ],
    ['tmpfs', '/var', 'tmpfs', 'mode=0755,size=50%'],
    ['/dev/disk/by-label/my disk', '/mnt/my data', 'ext4', 'defaults'],
    ['overlay', '/nix/store', 'overlay', 'lowerdir=/a,b,upperdir=/c'],
  ])
  assert.deepEqual(readByUs(nixos), await readByMount(nixos))
})

test('blanks, tabs, comments, escapes and missing fields', async () => {
  const text = [
    '',
    '   ',
    '\t# indented comment',
    '#/dev/commented /out ext4',
    '  /dev/a\t /tabs  ext4\trw\t0\t0  ',
    '/dev/b /three ext4',
    '/dev/c /four ext4 ro',
    '/dev/d /five ext4 ro 1',
    '/dev/e /d\\303\\251j\\303\\240 ext4 rw 0 0',
    '/dev/f /déjà-vu ext4 rw 0 0',
    '/dev/w /wide\u3000blank\u00a0s ext4 rw 0 0',
    '\\134back /slash\\134s\\011and\\040blanks ext4 rw 0 0',
    '/dev/g /not\\08an\\9escape ext4 rw 0 0',
    'LABEL=root /label ext4 a=b,c=d 0 0',
  ].join('\n')
  assert.deepEqual(readByUs(text), await readByMount(text))
})

test('options are separated by commas', () => {
  assert.deepEqual(parseFstab('a /b c d,e=f,g 0 0\n')[0]?.options, ['d', 'e=f', 'g'])
  assert.deepEqual(parseFstab('a /b c\n')[0]?.options, ['defaults'])
})

test('lines without a whole file system are ignored', () => {
  assert.deepEqual(parseFstab('a\na /b\n\n#\n'), [])
  assert.deepEqual(parseFstab(''), [])
})

test('any written file systems are read again, also by mount', async () => {
  const field = fc.string({ unit: fc.constantFrom(...'ab \t\\#é/=0:'.split('')), minLength: 1 })
  const escape = (text: string) =>
    text.replace(/[\s\\#]/g, (character) => {
      return `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`
    })
  const entry = fc.tuple(field, field, fc.stringMatching(/^[a-z0-9]{1,8}$/))
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { minLength: 50, maxLength: 100 }), async (entries) => {
      const fields = entries.map(([device, name, type], index) => {
        return [`d${device}`, `/${index}/x${name}x`, type, 'ro,x-a=b']
      })
      const text = fields.map((fields) => `${fields.map(escape).join(' ')} 0 0\n`).join('')
      assert.deepEqual(readByUs(text), fields)
      assert.deepEqual(
        (await readByMount(text)).map((found) => found.map(withoutDoubleSlashes)),
        fields.map((fields) => fields.map(withoutDoubleSlashes)),
      )
    }),
    { numRuns: 3, endOnFailure: true },
  )
})

/** findmnt removes double slashes. */
function withoutDoubleSlashes(text: string): string {
  return text.replace(/\/+/g, '/')
}

test('of two file systems for one place, the visible one is found', async () => {
  const place = join(temporaryDirectory(), 'place')
  mkdirSync(place)
  const text = `first ${place} tmpfs\nother /nowhere tmpfs noauto\nsecond ${place} tmpfs\n`
  writeFileSync(file, text)
  const script = 'mount --fstab "$1" --all && findmnt --noheadings --output SOURCE --target "$2"'
  const command = ['--user', '--map-root-user', '--mount', 'sh', '-euc', script, 'sh', file, place]
  const shown = (await runProgram('unshare', command)).trim().split('\n').at(-1)
  assert.equal(fileSystemAt(parseFstab(text), place)?.device, shown)
  assert.equal(shown, 'second')
})
