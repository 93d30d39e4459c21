/** The processor time of a program and all its processes, also of those that have ended. */
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { errnoOf } from '../src/errors.ts'
import { childrenOf } from '../test/support/processes.ts'

const groups: string[] = []
// The kernel can remove the groups, because the programs have ended.
process.once('exit', () => groups.forEach((group) => rmdirSync(group)))

/**
 * Puts a running program into a control group of its own, because the kernel counts the children of
 * some servers nowhere else. Needs root.
 *
 * @returns the seconds that the program has used since then
 */
export function countProcessorTime(program: number): () => number {
  const group = join(controlGroups(), `netimage-bench-${process.pid}-${groups.length}`)
  mkdirSync(group)
  groups.push(group)
  for (const pid of [program, ...descendants(program)]) {
    try {
      writeFileSync(join(group, 'cgroup.procs'), String(pid))
    } catch (error) {
      // The process has ended meanwhile.
      if (errnoOf(error) !== 'ESRCH') throw error
    }
  }
  return () => {
    const statistics = readFileSync(join(group, 'cpu.stat'), 'utf8')
    return Number(/^usage_usec (\d+)$/m.exec(statistics)?.[1]) / 1e6
  }
}

/** Where control groups (version 2) are mounted. */
function controlGroups(): string {
  const mount = /^\S+ (\S+) cgroup2 /m.exec(readFileSync('/proc/mounts', 'utf8'))?.[1]
  if (mount === undefined) throw new Error('This measurement needs control groups (version 2).')
  return mount
}

function descendants(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendants(child)])
}
