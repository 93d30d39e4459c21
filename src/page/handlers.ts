/** The answers about a site, by path: see routes.ts. */
import { findBoot, findBoots } from '../boots/read.ts'
import { printableJson } from '../printable.ts'
import { nextPiece } from '../roots/steps.ts'
import { openSiteToRead } from '../site/database.ts'
import { machineIn } from '../site/find-machine.ts'
import { countLeftFiles } from '../site/left-files.ts'
import { shownLogRow } from '../site/log/shown.ts'
import { BrokenRow } from '../site/rows.ts'
import { shownAttempt, shownGeneration } from '../site/status.ts'
import { version } from '../version.ts'
import { dataAnswer, freshAnswer, jsonAnswer, refusal, type Answer } from './answer.ts'
import type { EventClients } from './events.ts'
import type { ReadImages } from './images.ts'
import type { Counts } from './metrics/counts.ts'
import { allMetrics } from './metrics/all-metrics.ts'
import { metricsType } from './metrics/text.ts'
import { bootsQuery, logQuery, readQuery, targetsQuery, timeIn } from './queries.ts'
import type { Stream } from './server.ts'
import { exporterPort, targetsOf } from './targets.ts'
import type { Seen, View } from './view.ts'

export interface RoutesSettings {
  state: string
  view: Pick<View, 'look'>
  images: ReadImages
  counts: Pick<Counts, 'metrics'>
  events: Pick<EventClients, 'size' | 'isFull' | 'add'>
  /** By path. */
  files: ReadonlyMap<string, Answer>
  /** When the server started. Milliseconds since 1970. */
  startedAt: number
}

export interface Asked {
  settings: RoutesSettings
  query: URLSearchParams
  isHead: boolean
}

export function site({ settings: { startedAt } }: Asked): Answer {
  return dataAnswer({ version, startedAt })
}

export async function images({ settings }: Asked): Promise<Answer> {
  return dataAnswer(await settings.images())
}

const lists = new WeakMap<Seen, Answer>()

export async function machines({ settings, query }: Asked): Promise<Answer> {
  const seen = await settings.view.look()
  await nextPiece()
  const wanted = query.getAll('machine')
  if (wanted.length > 0) return machinesAnswer(seen, new Set(wanted))
  const answer = lists.get(seen) ?? machinesAnswer(seen)
  lists.set(seen, answer)
  return answer
}

function machinesAnswer({ machines, broken, others }: Seen, wanted?: ReadonlySet<string>): Answer {
  const texts = [...machines].flatMap(([machine, { json }]) =>
    wanted === undefined || wanted.has(machine) ? [json] : [],
  )
  const list = `"machines":[${texts.join(',')}],"others":[${jsonOf(others)}]`
  return jsonAnswer(`{${list},"broken":${printableJson(broken.map(brokenAsData))}}\n`)
}

function brokenAsData({ machine, code, message, hint }: BrokenRow): object {
  return { machine, code, message, ...(hint !== undefined && { hint }) }
}

export async function machine(
  { settings: { state, view } }: Asked,
  name: string,
): Promise<Answer | undefined> {
  const { machines, site } = await view.look()
  const machine = machineIn(site, name)
  const life = site.machines.get(machine)
  if (life instanceof BrokenRow) throw life
  const shown = machines.get(machine)
  if (!life || !shown) return undefined
  return dataAnswer({
    ...shown.value,
    ...countLeftFiles(state, machine),
    generations: life.generations.map(shownGeneration),
    attempts: life.attempts.map(shownAttempt),
  })
}

export async function machineBoots(
  { settings: { state, view }, query }: Asked,
  name: string,
): Promise<Answer> {
  const { number = 20 } = readQuery(bootsQuery, query)
  const { site } = await view.look()
  return dataAnswer(findBoots(state, machineIn(site, name), number))
}

export async function boot(
  { settings: { state, view } }: Asked,
  name: string,
  started: string,
): Promise<Answer | undefined> {
  const { site } = await view.look()
  const machine = machineIn(site, name)
  const at = timeIn(started)
  const found = at === undefined ? undefined : findBoot(state, machine, at)
  return found && dataAnswer(found)
}

export async function groups({ settings }: Asked): Promise<Answer> {
  const { groups, brokenRollouts } = await settings.view.look()
  const broken = brokenRollouts.map(({ code, message, hint }) => ({ code, message, hint }))
  return jsonAnswer(`{"groups":[${jsonOf(groups)}],"broken":${printableJson(broken)}}\n`)
}

function jsonOf(shown: ReadonlyMap<string, { json: string }>): string {
  return [...shown.values()].map(({ json }) => json).join(',')
}

export async function group({ settings }: Asked, name: string): Promise<Answer | undefined> {
  const { groups } = await settings.view.look()
  const found = groups.get(name)
  return found && jsonAnswer(`${found.json}\n`)
}

export function boots({ settings: { state }, query }: Asked): Answer {
  const { number = 20 } = readQuery(bootsQuery, query)
  return dataAnswer(findBoots(state, undefined, number))
}

export function log({ settings: { state }, query }: Asked): Answer {
  const { number = 50, machine, since, after } = readQuery(logQuery, query)
  const site = openSiteToRead(state)
  if (!site) return dataAnswer({ rows: [], last: 0 })
  try {
    const named = site.names()
    const broken: BrokenRow[] = []
    const declarations = site.declarations((error) => broken.push(error))
    const all = { names: named, declarations, broken }
    const about = machine === undefined ? undefined : machineIn(all, machine)
    const { rows, last } = site.log({ machine: about, since, after, newest: number })
    return dataAnswer({ rows: rows.map((row) => shownLogRow(row, named)), last })
  } finally {
    site.close()
  }
}

export function events({ settings: { events }, isHead }: Asked): Answer | Stream {
  if (events.isFull) {
    return refusal(
      ...([503, 'too-many-listeners', `${events.size} clients listen already.`] as const),
      'End another one, or read the data again and again: the ETag makes that cheap.',
    )
  }
  if (isHead) return { status: 200, type: 'text/event-stream', body: '' }
  return (response) => events.add(response)
}

export async function targets({ settings, query }: Asked): Promise<Answer> {
  const { port = exporterPort } = readQuery(targetsQuery, query)
  const { machines } = await settings.view.look()
  const shown = [...machines.values()].map(({ value }) => value)
  return dataAnswer(targetsOf(shown, port))
}

export function openApi({ settings: { files } }: Asked): Answer | undefined {
  return files.get('/openapi.json')
}

export async function metrics({ settings }: Asked): Promise<Answer> {
  return freshAnswer(await allMetrics(settings), metricsType)
}
