/** What the page shows, made anew when something has changed, and what is different then. */
import type { Boot } from '../boots/follow.ts'
import type { NetimageError } from '../errors.ts'
import { printableJson } from '../printable.ts'
import { nextPiece } from '../roots/steps.ts'
import { newLife, type Life } from '../site/life/life.ts'
import { groupStatuses } from '../site/rollout/status.ts'
import { BrokenRow } from '../site/rows.ts'
import { together } from '../together.ts'
import { createLayerSizes } from './layer-sizes.ts'
import { createReadSite, noSite, type SiteNow } from './read-site.ts'
import { shownGroup, shownMachine, type ShownGroup, type ShownMachine } from './shown.ts'

/** Something that is shown, and its JSON. */
export interface Shown<T> {
  value: T
  json: string
}

export interface Seen {
  site: SiteNow
  /** By machine. */
  machines: ReadonlyMap<string, Shown<ShownMachine>>
  /** By name. */
  groups: ReadonlyMap<string, Shown<ShownGroup>>
  /** Machines with broken rows, which are not among `machines`. */
  broken: readonly BrokenRow[]
  /** Roll-outs with broken rows. */
  brokenRollouts: readonly NetimageError[]
  /** The last boots of machines that are not in the site, by machine. They only asked. */
  others: ReadonlyMap<string, Shown<Boot>>
}

/** What is different than before. */
export interface Changes {
  /** Also machines that are gone. */
  machines: ReadonlySet<string>
  groups: ReadonlySet<string>
  /** Whether something else has: machines that are not in the site, or that cannot be read. */
  others: boolean
  /** The number of the newest row of the log, if there are new ones. */
  log?: number
}

export interface View {
  /**
   * What was seen a moment ago counts as now. The object is the same as before if nothing has changed.
   *
   * @throws `NetimageError` if the site cannot be read
   */
  look(): Promise<Seen>
  close(): Promise<void>
}

export interface ViewSettings {
  state: string
  /** The last boot of each machine. */
  boots: () => readonly Boot[]
  /** Called after a look, if it saw something new. */
  onChanges: (changes: Changes) => void
  onError: (error: NetimageError) => void
  /** Milliseconds since 1970. */
  now?: () => number
}

/** So many machines are made JSON in one turn of the event loop. */
const inOneTurn = 50
/** Those who ask more often get what the last one got. Milliseconds. */
const momentMs = 200

const nothing: Seen = {
  ...{ site: noSite, machines: new Map(), groups: new Map() },
  ...{ broken: [], brokenRollouts: [], others: new Map() },
}

export function createView({
  state,
  onChanges,
  onError,
  now = Date.now,
  ...settings
}: ViewSettings): View {
  const readSite = createReadSite(state)
  const layers = createLayerSizes(state, onError)
  let seen = nothing
  let lookedAt = -Infinity

  async function lookNow(): Promise<Seen> {
    const site = await readSite()
    const boots = new Map(settings.boots().map((boot) => [boot.machine, boot]))
    const at = now()
    const machines = new Map<string, Shown<ShownMachine>>()
    const broken = [...site.broken, ...site.rollouts.brokenRequests]
    let count = 0
    for (const [machine, life] of site.machines) {
      if (count++ % inOneTurn === 0) await nextPiece()
      if (life instanceof BrokenRow) {
        broken.push(life)
        continue
      }
      const around = { boot: boots.get(machine), layer: layers.of(machine), now: at }
      machines.set(machine, kept(shownMachine(life, site, around), seen.machines.get(machine)))
    }
    await nextPiece()
    const groups = new Map(
      groupStatuses((machine) => lifeIn(site, machine), site.rollouts, site.uptime, site.names).map(
        (group): [string, Shown<ShownGroup>] => {
          const { group: name } = group.shown
          return [name, kept(shownGroup(group, boots, site.names), seen.groups.get(name))]
        },
      ),
    )
    const others = new Map<string, Shown<Boot>>()
    for (const [machine, boot] of boots) {
      if (site.machines.has(machine)) continue
      if (count++ % inOneTurn === 0) await nextPiece()
      // A boot goes on while others are answered.
      const copy = { ...boot, steps: { ...boot.steps } }
      others.set(machine, kept(copy, seen.others.get(machine)))
    }
    await nextPiece()
    const found = { site, machines, groups, broken, brokenRollouts: site.rollouts.broken, others }
    const changes = changesIn(seen, found)
    lookedAt = performance.now()
    layers.want(machines.keys())
    if (!changes) return seen
    seen = found
    onChanges(changes)
    return seen
  }

  const look = together(lookNow)
  return {
    look: async () => (performance.now() - lookedAt < momentMs ? seen : await look()),
    close: () => layers.close(),
  }
}

/** The same object as before, if the JSON is the same. */
function kept<T>(value: T, before: Shown<T> | undefined): Shown<T> {
  const json = printableJson(value)
  return json === before?.json ? before : { value, json }
}

/** @throws `BrokenRow` */
function lifeIn({ machines }: SiteNow, machine: string): Life {
  const life = machines.get(machine) ?? newLife(machine)
  if (life instanceof BrokenRow) throw life
  return life
}

function changesIn(before: Seen, now: Seen): Changes | undefined {
  const machines = different(before.machines, now.machines)
  const groups = different(before.groups, now.groups)
  const others =
    different(before.others, now.others).size > 0 || saysBroken(before) !== saysBroken(now)
  const isLonger = now.site.log !== before.site.log
  if (machines.size === 0 && groups.size === 0 && !others && !isLonger) return undefined
  return { machines, groups, others, ...(isLonger && { log: now.site.log }) }
}

function saysBroken({ broken, brokenRollouts }: Seen): string {
  return printableJson([...broken, ...brokenRollouts].map(({ message }) => message))
}

function different<T>(before: ReadonlyMap<string, T>, now: ReadonlyMap<string, T>): Set<string> {
  const changed = [...now].filter(([name, value]) => before.get(name) !== value)
  const gone = [...before.keys()].filter((name) => !now.has(name))
  return new Set([...changed.map(([name]) => name), ...gone])
}
