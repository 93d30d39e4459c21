/** What the page knows of the site. It is read at the start, and again if the server says that it has changed. */

import { encode } from './text.js'

/** A request that takes longer has failed. */
const patienceMs = 15_000
/** What could not be read is asked for again after this time. */
export const againMs = 5000
/** How often it is asked whether the server is still there. A broken network may not be noticed otherwise. */
const beatMs = 20_000
/** So many machines are named in one request. */
const mostNamed = 100

export function createData({ onChange, onConnection }) {
  const data = {
    version: undefined,
    machines: new Map(),
    others: [],
    broken: [],
    groups: new Map(),
    brokenGroups: [],
    images: new Map(),
    /** By how many milliseconds the clock of the server is ahead of the clock of this computer. */
    ahead: 0,
    now: () => Date.now() + data.ahead,
  }
  const askedImages = new Set()
  let wanted = nothing()
  let isReading = false
  let source
  let connection = { state: 'connecting', goodAt: undefined, problem: undefined }

  function tell(more) {
    const before = connection
    connection = { ...connection, ...more }
    const isSame = ['state', 'problem'].every((name) => before[name] === connection[name])
    if (!isSame || connection.state !== 'live') onConnection(connection)
  }

  function good() {
    tell({ state: 'live', goodAt: Date.now(), problem: undefined })
  }

  function bad(problem = connection.problem) {
    tell({ state: 'stale', problem })
  }

  async function get(path) {
    const response = await fetch(path, { signal: AbortSignal.timeout(patienceMs) })
    const answer = await response.json()
    if (!response.ok) throw new Problem(answer.error)
    const at = Date.parse(response.headers.get('Date') ?? '')
    // The header has whole seconds.
    if (!Number.isNaN(at)) data.ahead = Math.abs(at - Date.now()) < 2000 ? 0 : at - Date.now()
    return answer
  }

  async function readMachines(names, isOthers) {
    if (names === 'all') {
      const { machines, others, broken } = await get('/api/machines')
      data.machines = new Map(machines.map((each) => [each.machine, each]))
      Object.assign(data, { others, broken })
      return
    }
    const all = [...names]
    // Only others have changed: what is asked for is no machine.
    if (isOthers && all.length === 0) all.push('none')
    for (let at = 0; at < all.length; at += mostNamed) {
      const some = all.slice(at, at + mostNamed)
      const query = some.map((each) => `machine=${encode(each).replaceAll('%3A', ':')}`)
      const { machines, others, broken } = await get(`/api/machines?${query.join('&')}`)
      for (const name of some) data.machines.delete(name)
      for (const each of machines) data.machines.set(each.machine, each)
      Object.assign(data, { others, broken })
    }
  }

  async function readGroups() {
    const { groups, broken } = await get('/api/groups')
    data.groups = new Map(groups.map((each) => [each.group, each]))
    data.brokenGroups = broken
  }

  async function readImages() {
    const { images } = await get('/api/images')
    data.images = new Map(images.map((each) => [each.id, each]))
    for (const id of unknownImages()) askedImages.add(id)
  }

  function unknownImages() {
    const ids = [...data.machines.values()].flatMap(({ last, next }) => [
      ...(last ? [last.generation.image] : []),
      ...(next ? [next.image] : []),
    ])
    return ids.filter((id) => !data.images.has(id) && !askedImages.has(id))
  }

  /** @param {Wanted} wanted */
  async function read({ machines, groups, others, log }) {
    await Promise.all([
      ...(machines === 'all' || machines.size > 0 || others
        ? [readMachines(machines, others)]
        : []),
      // `others` also tells of roll-outs with broken rows.
      ...(groups === 'all' || groups.size > 0 || others ? [readGroups()] : []),
    ])
    if (unknownImages().length > 0) await readImages()
    onChange({ machines, groups, others, log })
  }

  async function pump() {
    if (isReading) return
    isReading = true
    while (isSome(wanted)) {
      const now = wanted
      wanted = nothing()
      try {
        await read(now)
        if (source?.readyState === EventSource.OPEN) good()
        else tell({ goodAt: Date.now() })
      } catch (error) {
        wanted = together(now, wanted)
        bad(error instanceof Problem ? error.problem : undefined)
        setTimeout(pump, againMs)
        break
      }
    }
    isReading = false
  }

  /** @param {Wanted} more */
  function want(more) {
    wanted = together(wanted, more)
    void pump()
  }

  function connect() {
    source?.close()
    source = new EventSource('/api/events')
    source.addEventListener('hello', (event) => {
      const { version } = JSON.parse(event.data)
      // The files of the page may be others, too.
      if (data.version !== undefined && data.version !== version) location.reload()
      data.version = version
      want(everything)
    })
    source.addEventListener('changed', (event) => {
      const { machines, groups, others, log = 0 } = JSON.parse(event.data)
      const named = machines === 'all' ? 'all' : new Set(machines)
      want({ machines: named, groups: new Set(groups), others, log })
    })
    source.addEventListener('problem', (event) => {
      bad(JSON.parse(event.data))
      // The server does not say when it can read again.
      setTimeout(() => want({ ...nothing(), groups: 'all', others: true }), againMs)
    })
    source.addEventListener('error', ({ target }) => {
      if (target.readyState === EventSource.CLOSED) void refused()
      else bad()
    })
  }

  /** The server tells this page of no changes, perhaps because too many others listen. So the page reads all. */
  async function refused() {
    bad(await whyRefused())
    want(everything)
  }

  async function beat() {
    if (document.hidden) return
    try {
      await get('/api/site')
      if (source.readyState === EventSource.CLOSED) connect()
      else if (source.readyState === EventSource.OPEN && !connection.problem && !isReading) good()
    } catch {
      bad()
      connect()
    }
  }

  return {
    data,
    get,
    start() {
      if (!document.hidden) connect()
      setInterval(beat, beatMs)
      // A browser has six connections to a server. Hidden tabs would keep the others from theirs.
      document.addEventListener('visibilitychange', () => {
        if (document.hidden) source?.close()
        else connect()
      })
      addEventListener('online', beat)
    },
  }
}

/** @returns the error that a browser does not give to the page if it cannot open the events */
async function whyRefused() {
  try {
    const response = await fetch('/api/events', { signal: AbortSignal.timeout(patienceMs) })
    if (!response.ok) return (await response.json()).error
    await response.body?.cancel()
  } catch {
    // It is no answer of netimage.
  }
  return undefined
}

/** @type {Wanted} */
const everything = { machines: 'all', groups: 'all', others: true, log: 'all' }

/** An error that the server tells. */
export class Problem extends Error {
  constructor(problem) {
    super(problem?.message ?? 'the server has failed')
    this.problem = problem
  }
}

/**
 * @typedef {object} Wanted
 * @property {Set<string> | 'all'} machines
 * @property {Set<string> | 'all'} groups
 * @property {boolean} others
 * @property {number | 'all'} log the number of the newest row of the log, 0 if there is no new one, or `all` if it is
 *   not known
 */

/** @returns {Wanted} */
function nothing() {
  return { machines: new Set(), groups: new Set(), others: false, log: 0 }
}

/** @param {Wanted} wanted */
function isSome({ machines, groups, others, log }) {
  const isAny = (names) => names === 'all' || names.size > 0
  return isAny(machines) || isAny(groups) || others || log !== 0
}

/**
 * @param {Wanted} one
 * @param {Wanted} other
 * @returns {Wanted}
 */
function together(one, other) {
  /** @type {(a: Set<string> | 'all', b: Set<string> | 'all') => Set<string> | 'all'} */
  const union = (a, b) => (a === 'all' || b === 'all' ? 'all' : a.union(b))
  return {
    machines: union(one.machines, other.machines),
    groups: union(one.groups, other.groups),
    others: one.others || other.others,
    log: one.log === 'all' || other.log === 'all' ? 'all' : Math.max(one.log, other.log),
  }
}
