/** Which machines of a group are in which wave. */
import type { Share, Wave } from './desired.ts'
import type { Problem } from './problem.ts'

export interface ResolvedWave {
  /** Keys of machines. At least one. */
  machines: readonly string[]
  pause: boolean
}

/** How many machines are meant at least: a part of a machine counts as one. @param of at least 1 */
export function atLeast(share: Share, of: number): number {
  return 'count' in share ? share.count : Math.ceil((share.percent * of) / 100)
}

/** How many machines are meant at most, but one in any case. @param of at least 1 */
export function atMost(share: Share, of: number): number {
  return 'count' in share ? share.count : Math.max(1, Math.floor((share.percent * of) / 100))
}

/**
 * A machine is in the first wave that has it. Waves without machines are left out.
 *
 * @param machines keys of all machines of the group
 * @param find the machines of the group that a selector of a wave names
 * @param field the key of the waves in the file
 * @param nameOf how people call a machine
 */
export function resolveWaves(
  machines: readonly string[],
  waves: readonly Wave[],
  {
    find,
    field,
    nameOf,
  }: {
    find: (selector: string, field: string) => readonly string[]
    field: string
    nameOf: (machine: string) => string
  },
): { waves: ResolvedWave[]; problems: Problem[] } {
  const problems: Problem[] = []
  const left = new Set(machines)
  const resolved = waves.map(({ members, pause }, at) => {
    const taken = take(members, `${field}.${at}`)
    for (const machine of taken) left.delete(machine)
    return { machines: taken, pause }
  })

  function take(members: Wave['members'], at: string): string[] {
    if (members === 'rest') return [...left]
    if (!('machines' in members)) return [...left].slice(0, atLeast(members, machines.length))
    const named = new Set(members.machines.flatMap((each) => find(each, at)))
    return machines.filter((machine) => named.has(machine) && left.has(machine))
  }

  const rest = waves.findIndex(({ members }) => members === 'rest')
  if (rest >= 0 && rest < waves.length - 1) {
    problems.push({
      field: `${field}.${rest}`,
      message: 'waves follow after "rest", which leaves no machine for them',
      hint: 'Put "rest" at the end.',
    })
  } else if (left.size > 0) {
    const names = [...left].map(nameOf).join(', ')
    problems.push({
      field,
      message: `no wave has ${names}`,
      hint: 'Add "rest" as the last wave.',
    })
  }
  return { waves: withoutEmpty(resolved), problems }
}

/** The pause after an empty wave is one after the wave before it. */
function withoutEmpty(waves: readonly ResolvedWave[]): ResolvedWave[] {
  const kept: ResolvedWave[] = []
  for (const wave of waves) {
    const last = kept.at(-1)
    if (wave.machines.length > 0) kept.push(wave)
    else if (last && wave.pause) kept.splice(-1, 1, { ...last, pause: true })
  }
  return kept
}
