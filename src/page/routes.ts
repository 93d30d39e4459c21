/** What each path of the page's server answers. */
import { statfs } from 'node:fs/promises'
import * as v from 'valibot'

import { findBoot, findBoots } from '../boots/read.ts'
import { exitStatus, fileSystemError, NetimageError } from '../errors.ts'
import { printableJson } from '../printable.ts'
import { nextPiece } from '../roots/steps.ts'
import { openSiteToRead } from '../site/database.ts'
import { machineIn } from '../site/find-machine.ts'
import { countLeftFiles } from '../site/left-files.ts'
import { shownLogRow } from '../site/log/shown.ts'
import { BrokenRow } from '../site/rows.ts'
import { shownAttempt, shownGeneration } from '../site/status.ts'
import { version } from '../version.ts'
import { dataAnswer, failure, freshAnswer, jsonAnswer, refusal, type Answer } from './answer.ts'
import type { ReadImages } from './images.ts'
import type { Counts } from './metrics/counts.ts'
import { siteMetrics, type Disk } from './metrics/site-metrics.ts'
import { metricText, metricsType } from './metrics/text.ts'
import type { PageRequest } from './server.ts'
import { exporterPort, targetsOf } from './targets.ts'
import type { Seen, View } from './view.ts'

export interface RoutesSettings {
  state: string
  view: Pick<View, 'look'>
  images: ReadImages
  counts: Pick<Counts, 'metrics'>
  /** By path. */
  files: ReadonlyMap<string, Answer>
  /** When the server started. Milliseconds since 1970. */
  startedAt: number
}

/** What is asked, and about what. */
interface Asked {
  settings: RoutesSettings
  /** The parts of the path after the name of the collection. */
  names: readonly string[]
  query: URLSearchParams
}

type Route = (asked: Asked) => Promise<Answer | undefined> | Answer | undefined

const api: Readonly<Record<string, Route>> = {
  site: ({ settings, names }) =>
    names.length === 0 ? dataAnswer({ version, startedAt: settings.startedAt }) : undefined,
  images: async ({ settings, names }) =>
    names.length === 0 ? dataAnswer(await settings.images()) : undefined,
  machines,
  groups,
  boots({ settings: { state }, names, query }) {
    const { number = 20 } = read(bootsQuery, query)
    return names.length === 0 ? dataAnswer(findBoots(state, undefined, number)) : undefined
  },
  log,
  async targets({ settings, names, query }) {
    if (names.length > 0) return undefined
    const { port = exporterPort } = read(targetsQuery, query)
    const { machines } = await settings.view.look()
    return dataAnswer(
      targetsOf(
        [...machines.values()].map(({ value }) => value),
        port,
      ),
    )
  },
}

const [documentPath, documentFile] = ['/api/openapi.json', '/openapi.json']

/** Something is answered to all paths. */
export async function answerPath(
  settings: RoutesSettings,
  { path, query }: Pick<PageRequest, 'path' | 'query'>,
): Promise<Answer> {
  const nothing = refusal(404, 'not-found', 'There is nothing at this path.')
  const [, first, collection = '', ...names] = path.split('/')
  const ofApi = first === 'api' && Object.hasOwn(api, collection) ? api[collection] : undefined
  const route = path === '/metrics' ? metrics : ofApi
  if (path === documentPath) return settings.files.get(documentFile) ?? nothing
  if (!route) return settings.files.get(path) ?? nothing
  try {
    return (await route({ settings, names, query })) ?? nothing
  } catch (error) {
    if (error instanceof v.ValiError)
      return refusal(400, 'bad-query', `Bad query: ${error.message}.`)
    if (!(error instanceof NetimageError)) throw error
    return failure(error.exitStatus === exitStatus.notFound ? 404 : 503, error)
  }
}

async function metrics({ settings }: Asked): Promise<Answer> {
  const { state, view, images, counts } = settings
  const [seen, shownImages] = [await view.look(), await images()]
  const disk = await diskOf(state)
  const { groups } = seen.site
  const texts: string[] = []
  for (const metric of [...siteMetrics(seen, shownImages, disk), ...counts.metrics(groups)]) {
    // There may be a sample for each machine.
    await nextPiece()
    texts.push(metricText(metric))
  }
  return freshAnswer(texts.join(''), metricsType)
}

/** @throws `NetimageError` `file-system` */
async function diskOf(state: string): Promise<Disk> {
  try {
    const { bsize, blocks, bavail } = await statfs(state)
    return { size: blocks * bsize, available: bavail * bsize }
  } catch (error) {
    throw fileSystemError(`could not look at ${state}`, error)
  }
}

const lists = new WeakMap<Seen, Answer>()

async function machines(asked: Asked): Promise<Answer | undefined> {
  const { settings, names, query } = asked
  const seen = await settings.view.look()
  const [named, part, ...rest] = names
  if (named === undefined) {
    const wanted = query.getAll('machine')
    if (wanted.length > 0) return machinesAnswer(seen, new Set(wanted))
    const answer = lists.get(seen) ?? machinesAnswer(seen)
    lists.set(seen, answer)
    return answer
  }
  const machine = machineIn(seen.site, named)
  if (part === undefined) return machineAnswer(settings.state, seen, machine)
  return part === 'boots' ? bootsOf(asked, machine, rest) : undefined
}

function machinesAnswer({ machines, broken, others }: Seen, wanted?: ReadonlySet<string>): Answer {
  const texts = [...machines].flatMap(([machine, { json }]) =>
    wanted === undefined || wanted.has(machine) ? [json] : [],
  )
  const more = printableJson({ others, broken: broken.map(brokenAsData) }).slice(1)
  return jsonAnswer(`{"machines":[${texts.join(',')}],${more}\n`)
}

function brokenAsData({ machine, code, message, hint }: BrokenRow): object {
  return { machine, code, message, ...(hint !== undefined && { hint }) }
}

function machineAnswer(state: string, { machines, site }: Seen, machine: string) {
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

function bootsOf(
  { settings: { state }, query }: Asked,
  machine: string,
  [started, ...rest]: readonly string[],
): Answer | undefined {
  if (rest.length > 0) return undefined
  if (started === undefined) {
    const { number = 20 } = read(bootsQuery, query)
    return dataAnswer(findBoots(state, machine, number))
  }
  const at = v.safeParse(time, started)
  const found = at.success ? findBoot(state, machine, at.output) : undefined
  return found && dataAnswer(found)
}

async function groups({ settings, names }: Asked): Promise<Answer | undefined> {
  const { groups, brokenRollouts } = await settings.view.look()
  const [name, ...rest] = names
  if (rest.length > 0) return undefined
  if (name !== undefined) {
    const found = groups.get(name)
    return found && jsonAnswer(`${found.json}\n`)
  }
  const broken = brokenRollouts.map(({ code, message, hint }) => ({ code, message, hint }))
  const texts = [...groups.values()].map(({ json }) => json)
  return jsonAnswer(`{"groups":[${texts.join(',')}],"broken":${printableJson(broken)}}\n`)
}

function log({ settings: { state }, names, query }: Asked): Answer | undefined {
  if (names.length > 0) return undefined
  const { number = 50, machine, since, after } = read(logQuery, query)
  const site = openSiteToRead(state)
  if (!site) return dataAnswer({ rows: [], last: 0 })
  try {
    const named = site.names()
    const all = { names: named, declarations: site.declarations() }
    const about = machine === undefined ? undefined : machineIn(all, machine)
    const { rows, last } = site.log({ machine: about, since, after, newest: number })
    return dataAnswer({ rows: rows.map((row) => shownLogRow(row, named)), last })
  } finally {
    site.close()
  }
}

const whole = v.pipe(
  v.string(),
  v.regex(/^\d{1,15}$/, 'it is no whole number'),
  v.transform(Number),
)
const number = v.pipe(whole, v.minValue(1), v.maxValue(500))
const time = whole

const targetsQuery = v.strictObject({
  port: v.exactOptional(v.pipe(whole, v.minValue(1), v.maxValue(65_535))),
})
const bootsQuery = v.strictObject({ number: v.exactOptional(number) })
const logQuery = v.strictObject({
  number: v.exactOptional(number),
  machine: v.exactOptional(v.string()),
  /** Milliseconds since 1970. */
  since: v.exactOptional(time),
  /** The number of a row. */
  after: v.exactOptional(whole),
})

/** @throws `ValiError` */
function read<T extends v.GenericSchema>(schema: T, query: URLSearchParams): v.InferOutput<T> {
  return v.parse(schema, Object.fromEntries(query))
}
