// Describes a tree as text for comparisons, with everything that a machine can see.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'

export type TreeOptions = {
  /** Leave out the owners of the files. */
  owners?: boolean
  /** Leave out the time stamps. */
  times?: boolean
}

const slash = Buffer.from('/')

/** A line for each file, in byte order. Names are bytes, decoded as Latin-1. */
export function describeTree(
  directory: string,
  { owners = true, times = true }: TreeOptions = {},
): string[] {
  const lines: string[] = []
  function visit(path: Buffer, name: string): void {
    const stat = lstatSync(path)
    const common = [
      JSON.stringify(name),
      (stat.mode & 0o7777).toString(8),
      ...(times ? [`mtime ${stat.mtimeMs}`] : []),
      ...(owners ? [`${stat.uid}:${stat.gid}`] : []),
    ]
    if (stat.isSymbolicLink()) {
      const target = readlinkSync(path, { encoding: 'buffer' }).toString('latin1')
      lines.push(['symlink', ...common, JSON.stringify(target)].join(' '))
    } else if (stat.isFile()) {
      const hash = createHash('sha256').update(readFileSync(path)).digest('hex')
      lines.push(['file', ...common, stat.size, hash].join(' '))
    } else {
      lines.push(['directory', ...common].join(' '))
      const names = readdirSync(path, { encoding: 'buffer' }).sort((a, b) => a.compare(b))
      for (const child of names) {
        visit(Buffer.concat([path, slash, child]), `${name}/${child.toString('latin1')}`)
      }
    }
  }
  visit(Buffer.from(directory), '.')
  return lines
}

/** Fails with only the lines that differ. A plain comparison would print all lines. */
export function assertSameLines(actual: readonly string[], expected: readonly string[]): void {
  const [wanted, got] = [new Set(expected), new Set(actual)]
  const differences = [
    ...actual.filter((line) => !wanted.has(line)).map((line) => `+ ${line}`),
    ...expected.filter((line) => !got.has(line)).map((line) => `- ${line}`),
  ]
  assert.deepEqual(differences.slice(0, 20), [])
  assert.equal(actual.length, expected.length)
}
