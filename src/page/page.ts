/** The status page of a server, and its data for programs. It only reads. */
import type { Boot } from '../boots/follow.ts'
import { asNetimageError, NetimageError } from '../errors.ts'
import type { ProcedureCounts } from '../protocols/nfs/procedure-counts.ts'
import { createEventClients } from './events.ts'
import { readFiles } from './files.ts'
import { createReadImages } from './images.ts'
import { createCounts, type Counts } from './metrics/counts.ts'
import { answerPath } from './routes.ts'
import { startPageServer } from './server.ts'
import { createView } from './view.ts'

export interface PageSettings {
  /** The state directory. */
  state: string
  /** Where the page is served: an IP address or a name of this computer. */
  host: string
  /** 0: any free port. */
  port: number
  /** Further names of this server, by which browsers may ask for the page. */
  names: readonly string[]
  /** The last boot of each machine. */
  boots: () => readonly Boot[]
  /** The operations of NFS that have succeeded since the server started. */
  operations: () => ProcedureCounts
  /** Called with errors that no client caused. */
  onError: (error: NetimageError) => void
}

/** The server tells the page each event of a boot (`see`) and each verdict (`told`), which it counts. */
export interface Page extends Pick<Counts, 'see' | 'told'> {
  url: string
  close(): Promise<void>
}

/** How often it is looked whether something has changed, while somebody watches. Milliseconds. */
const lookMs = 1000

/** @throws `NetimageError` `cannot-listen` */
export async function startPage(settings: PageSettings): Promise<Page> {
  const { state, host, port, boots, onError } = settings
  let looking: NodeJS.Timeout | undefined
  const events = createEventClients({
    onWatched(isWatched) {
      clearInterval(looking)
      looking = isWatched ? setInterval(look, lookMs) : undefined
    },
  })
  const view = createView({ state, boots, onChanges: (changes) => events.tell(changes), onError })
  let isFailing = false

  function look(): void {
    view.look().then(
      () => (isFailing = false),
      (error: unknown) => {
        if (!isFailing) events.tellProblem(asNetimageError(error))
        isFailing = true
      },
    )
  }

  const counts = createCounts(settings.operations)
  const routes = {
    ...{ state, view, events, files: readFiles(), images: createReadImages(state) },
    ...{ counts, startedAt: Date.now() },
  }
  const server = await startPageServer({
    ...{ host, port, onError },
    names: new Set([host, ...settings.names].map((name) => name.toLowerCase())),
    answer: (request) => answerPath(routes, request),
  })
  const shown = server.address.includes(':') ? `[${server.address}]` : server.address
  return {
    ...{ see: counts.see, told: counts.told },
    url: `http://${shown}:${server.port}/`,
    async close() {
      clearInterval(looking)
      events.close()
      await server.close()
      await view.close()
    },
  }
}
