/** Reads a site again and again, in pieces, and only what has changed since. Machines do not wait for it. */
import { statSync } from 'node:fs'

import { openSiteToRead, siteFile, type OpenToRead } from '../site/database.ts'
import { newLife, type Life } from '../site/life/life.ts'
import { noRollouts, type SiteRollouts } from '../site/rollout/statements.ts'
import { BrokenRow } from '../site/rows.ts'
import type { SiteContext } from '../site/status.ts'
import { nextPiece } from '../roots/steps.ts'

/** A site at one moment. */
export interface SiteNow extends SiteContext {
  rollouts: SiteRollouts
  /** By machine: of all that have booted, or that have a name or a group. */
  machines: ReadonlyMap<string, Life | BrokenRow>
  /** Declarations that cannot be read. */
  broken: readonly BrokenRow[]
  /** The number of the newest row of the log. */
  log: number
}

interface Known {
  life: Life | BrokenRow
  /** Tells that the life has changed. */
  fingerprint: string
}

/**
 * After this time, all lives are read anew. A life can change without another fingerprint and without a row in the
 * log. Milliseconds.
 */
const allMs = 30_000
/** So many lives are read in one turn of the event loop. */
const inOneTurn = 20
/** If there are more new rows in the log than this, all lives are read anew. */
const mostRows = 500

export const noSite: SiteNow = {
  ...{ names: new Map(), declarations: new Map(), groups: new Map(), holds: new Map() },
  uptime: 0,
  ...{ rollouts: noRollouts, machines: new Map(), broken: [], log: 0 },
}

/**
 * @returns a function that reads the site, and gives the same object as before if nothing has changed. It
 *   must not be called before its last result is there. It throws `NetimageError`
 */
export function createReadSite(
  state: string,
  now: () => number = () => performance.now(),
): () => Promise<SiteNow> {
  let known: ReadonlyMap<string, Known> = new Map()
  let site = noSite
  let [mark, allFrom] = ['', -Infinity]

  async function readAll(reader: OpenToRead): Promise<SiteNow> {
    const [names, uptime, rollouts] = [reader.names(), reader.uptime(), reader.rollouts()]
    const { rows, last } = reader.log({ after: site.log, newest: mostRows })
    const isAll = now() - allFrom >= allMs || rows.length >= mostRows
    if (isAll) allFrom = now()
    const touched = new Set(rows.flatMap((row) => ('machine' in row ? row.machine : [])))
    const fingerprints = reader.lifeFingerprints()
    const { groups, holds } = rollouts
    const found = new Map<string, Known>()
    let count = 0
    for (const machine of new Set([...fingerprints.keys(), ...names.keys(), ...groups.keys()])) {
      const fingerprint = fingerprints.get(machine) ?? ''
      const before = known.get(machine)
      if (before?.fingerprint === fingerprint && !isAll && !touched.has(machine)) {
        found.set(machine, before)
        continue
      }
      if (count++ % inOneTurn === 0) await nextPiece()
      const life = fingerprint === '' ? newLife(machine) : lifeIn(reader, machine)
      found.set(machine, { fingerprint, life })
    }
    known = found
    const machines = new Map([...found].map(([machine, { life }]) => [machine, life]))
    const broken: BrokenRow[] = []
    const declarations = reader.declarations((error) => broken.push(error))
    return {
      names,
      declarations,
      broken,
      uptime,
      groups,
      holds,
      rollouts,
      machines,
      log: last,
    }
  }

  return async () => {
    const found = markOf(siteFile(state))
    if (found.mark === mark && now() - allFrom < allMs) return site
    const reader = openSiteToRead(state)
    try {
      site = reader ? await readAll(reader) : noSite
    } finally {
      reader?.close()
    }
    // What was written meanwhile is read the next time.
    mark = found.isFresh ? '' : found.mark
    return site
  }
}

/** The clock of a file system may stand still for this long. Milliseconds. */
const freshMs = 50

/**
 * `mark` is another text than before if the database was written to. But if this was just now (`isFresh`),
 * what is written next may not change it.
 */
function markOf(file: string): { mark: string; isFresh: boolean } {
  const stats = ['', '-wal'].map((ending) =>
    statSync(`${file}${ending}`, { bigint: true, throwIfNoEntry: false }),
  )
  const texts = stats.map((stat) => (stat ? `${stat.ino} ${stat.size} ${stat.mtimeNs}` : '-'))
  const from = Date.now() - freshMs
  const isFresh = stats.some((stat) => stat !== undefined && Number(stat.mtimeMs) >= from)
  return { mark: texts.join(' '), isFresh }
}

function lifeIn(reader: OpenToRead, machine: string): Life | BrokenRow {
  try {
    return reader.lifeOf(machine)
  } catch (error) {
    if (error instanceof BrokenRow) return error
    throw error
  }
}
