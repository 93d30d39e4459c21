// Cuts off a layer in the middle of its work, again and again. All acknowledged operations must be
// found afterwards. Of the later operations, the first ones may be found, without gaps.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { lstatSync, rmSync, truncateSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'
import type { Program } from '../../e2e/support/program.ts'
import {
  applyToDirectory,
  changesData,
  operationOf,
  pathText,
  treeOfDirectory,
  type Operation,
  type TreeLine,
} from './layer-operations.ts'

const largestBatch = 12

function numberAt(seed: number, at: number): number {
  return (Math.imul(seed, 0x27d4eb2d) + Math.imul(at, 0x165667b1)) >>> 0
}

/** The operations from `at` on that are done before the next sync: the same at every run. */
export function batchAt(seed: number, at: number): Operation[] {
  const size = 1 + (numberAt(seed, at) % largestBatch)
  return Array.from({ length: size }, (_, step) => operationOf(numberAt(seed, at + step)))
}

const foundSchema = v.object({
  problems: v.array(v.string()),
  lines: v.array(
    v.object({
      ...{ path: v.string(), node: v.string(), kind: v.string(), mode: v.number() },
      ...{ owner: v.string(), links: v.number(), target: v.string(), size: v.number() },
      ...{ content: v.string(), modified: v.string() },
    }),
  ),
})

export interface Cuts {
  rounds: number
  seed: number
  /** A directory with the image's files, on which the same operations are done. */
  local: string
  /** Starts layer-work-program.ts. */
  start: () => Program
  /** The longest time that the program works before it is cut off. */
  longestMs: number
}

/** @returns how many operations were done in total */
export async function cutAgainAndAgain(cuts: Cuts): Promise<number> {
  const { seed, local } = cuts
  /** How many operations were done on the directory `local`. */
  let at = 0
  let answered: number[] = []
  const goOn = () => {
    const number = at++
    if (applyToDirectory(local, operationOf(numberAt(seed, number))) === 'done') {
      answered = [...answered.slice(-29), number]
    }
  }
  for (let round = 0; round <= cuts.rounds; round++) {
    await using program = killedAtEnd(cuts.start())
    const { text } = await program.waitFor(/^tree .*\]\}$/)
    const { problems, lines } = v.parse(foundSchema, JSON.parse(text.slice('tree '.length)))
    assert.deepEqual(problems, [])
    const { operations, unknown } = findMoment(lines, local, (step) => numberAt(seed, at + step))
    for (const end = at + operations; at < end;) goOn()
    assert.deepEqual(withoutData(lines, unknown), withoutData(treeOfDirectory(local), unknown))
    for (const path of unknown) truncateSync(onDisk(local, path))
    program.type(`${JSON.stringify({ from: at, answered, empty: [...unknown] })}\n`)
    await program.waitFor(/^acknowledged /)
    await sleep(((numberAt(seed, round) % 997) / 997) * cuts.longestMs)
    await program.kill()
    const last = program.lines().findLast(({ text: line }) => /^acknowledged \d+$/.test(line))
    const acknowledged = Number(last?.text.split(' ')[1])
    while (at < acknowledged) goOn()
  }
  return at
}

function killedAtEnd(program: Program) {
  return { ...program, [Symbol.asyncDispose]: () => program.kill() }
}

/**
 * The last acknowledgements of the program may be lost as well: so many more operations may have
 * been done.
 */
const farthest = 400

/**
 * Finds how many operations after the last acknowledgement survived.
 *
 * @param local as it was at the last acknowledgement
 * @returns how many more operations survived, and the files that were being written to: their data
 *   may match no single moment
 */
function findMoment(
  lines: readonly TreeLine[],
  local: string,
  next: (step: number) => number,
): { operations: number; unknown: Set<string> } {
  const copy = `${local}-ahead`
  execFileSync('cp', ['-a', local, copy])
  try {
    const found = structureOf(lines)
    const written = new Set<number>()
    let moment: { operations: number; paths: Map<number, string> } | undefined
    // The rest of a batch may have been done after that moment: only its data survived.
    for (let step = 0; step < (moment?.operations ?? farthest) + largestBatch; step++) {
      const tree = moment ? [] : treeOfDirectory(copy)
      if (!moment && structureOf(tree) === found) {
        const firsts = tree.filter(({ path, node }) => path === node)
        const paths = firsts.map(({ path }) => [inodeOf(copy, path), path] as const)
        moment = { operations: step, paths: new Map(paths) }
      }
      const operation = operationOf(next(step))
      const isDone = applyToDirectory(copy, operation) === 'done'
      if (isDone && changesData(operation)) written.add(inodeOf(copy, pathText(operation.path)))
    }
    if (!moment) {
      assert.deepEqual(lines, treeOfDirectory(local))
      throw new Error('unreachable')
    }
    const unknown = [...written].map((inode) => moment.paths.get(inode))
    return {
      operations: moment.operations,
      unknown: new Set(unknown.filter((path) => path !== undefined)),
    }
  } finally {
    rmSync(copy, { recursive: true })
  }
}

function structureOf(lines: readonly TreeLine[]): string {
  return JSON.stringify(withoutData(lines, new Set(lines.map(({ node }) => node))))
}

function withoutData(lines: readonly TreeLine[], files: ReadonlySet<string>): TreeLine[] {
  return lines.map((line) => (files.has(line.node) ? { ...line, size: 0, content: '' } : line))
}

function onDisk(root: string, path: string): Buffer {
  return Buffer.from(`${root}${path}`, 'latin1')
}

function inodeOf(root: string, path: string): number {
  return lstatSync(onDisk(root, path)).ino
}
