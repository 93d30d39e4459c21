import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import * as v from 'valibot'
import { onCloningDisk } from '../support/cloning-disk.ts'
import { mounted } from '../support/namespace.ts'
import { repository } from '../support/netimage.ts'
import { findingsSchema } from './support/findings.ts'

const directory = mkdtempSync(join(tmpdir(), 'netimage-state-disk-'))
after(() => rmSync(directory, { recursive: true }))
const disk = join(directory, 'disk')
mkdirSync(disk)

const schema = v.object({
  findings: findingsSchema,
  names: v.array(v.string()),
})

/** @param through mounts a file system at `disk` @returns also the names that are then on it */
function examineOn(through: readonly string[], state: string) {
  const script = `
    import { readdirSync } from 'node:fs'
    import { examineStateDisk } from '${repository}/src/doctor/state-disk.ts'
    const findings = examineStateDisk(process.argv[1])
    const names = readdirSync(process.argv[2])
    process.stdout.write(JSON.stringify({ findings, names }))`
  const node = [process.execPath, '--input-type=module', '--eval', script, state, disk]
  const [program = '', ...args] = [...through, ...node]
  return v.parse(schema, JSON.parse(execFileSync(program, args, { encoding: 'utf8' })))
}

suite('the disk of the state directory', () => {
  test('in memory, with little room and few inodes, is told', () => {
    const tmpfs = mounted('mount -t tmpfs -o size=10M,nr_inodes=100 memory "$1"', disk)
    const { findings: found } = examineOn(tmpfs, join(disk, 'not/made/yet'))
    assert.deepEqual(
      found.map(({ code, level }) => [code, level]),
      [
        ['state-disk', 'warning'],
        ['state-room', 'warning'],
        ['state-room', 'warning'],
      ],
    )
    assert.match(found[0]?.message ?? '', /is on tmpfs/)
    assert.match(found[1]?.message ?? '', /only 10 MiB$/)
    assert.match(found[2]?.message ?? '', /only 9\d more files \(inodes\)$/)
  })

  test('on Btrfs can clone', () => {
    const { findings, names } = examineOn(onCloningDisk(disk), disk)
    assert.deepEqual(
      findings.map(({ code }) => code),
      ['state-room'],
    )
    assert.deepEqual(names, [])
  })

  test('on ext4 cannot clone, and nothing is left behind', () => {
    const ext4 = `
      mount -t tmpfs memory "$1"
      truncate -s 32M "$1/disk"
      mke2fs -q -t ext4 "$1/disk"
      mount -o loop "$1/disk" "$1"`
    const { findings, names } = examineOn(mounted(ext4, disk), disk)
    const clones = findings.find(({ code }) => code === 'no-clones')
    assert.match(clones?.message ?? '', /cannot clone files/)
    assert.deepEqual(names, ['lost+found'])
  })
})
