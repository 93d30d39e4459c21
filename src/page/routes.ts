/** What each path of the page's server answers: docs/page.md has the same list. */
import { exitStatus, NetimageError } from '../errors.ts'
import { failure, refusal, type Answer } from './answer.ts'
import {
  boot,
  boots,
  events,
  group,
  groups,
  images,
  log,
  machine,
  machineBoots,
  machines,
  metrics,
  openApi,
  site,
  targets,
  type Asked,
  type RoutesSettings,
} from './handlers.ts'
import { BadQuery } from './queries.ts'
import type { PageRequest, Stream } from './server.ts'

type Found = Answer | Stream | undefined

/** @param names what the path has in place of the names in braces. @returns undefined: there is no such thing */
type Handler = (asked: Asked, ...names: string[]) => Found | Promise<Found>

const table: readonly (readonly [string, Handler])[] = [
  ['/api/site', site],
  ['/api/images', images],
  ['/api/machines', machines],
  ['/api/machines/{machine}', machine],
  ['/api/machines/{machine}/boots', machineBoots],
  ['/api/machines/{machine}/boots/{started}', boot],
  ['/api/groups', groups],
  ['/api/groups/{group}', group],
  ['/api/boots', boots],
  ['/api/log', log],
  ['/api/events', events],
  ['/api/targets', targets],
  ['/api/openapi.json', openApi],
  ['/metrics', metrics],
]

/** The paths, as in the OpenAPI document. */
export const paths: readonly string[] = table.map(([pattern]) => pattern)

const routes = table.map(([pattern, handler]) => ({ parts: pattern.split('/'), handler }))

/** Every path gets an answer. If there is nothing at it, this is an error. */
export async function answerPath(
  settings: RoutesSettings,
  { path, query, isHead }: PageRequest,
): Promise<Answer | Stream> {
  const nothing = refusal(404, 'not-found', 'There is nothing at this path.', seeList)
  const parts = path.split('/')
  for (const { parts: pattern, handler } of routes) {
    const names = namesIn(pattern, parts)
    if (!names) continue
    try {
      return (await handler({ settings, query, isHead }, ...names)) ?? nothing
    } catch (error) {
      if (error instanceof BadQuery) {
        return refusal(400, 'bad-query', `Bad query: ${error.message}.`, seeList)
      }
      if (!(error instanceof NetimageError)) throw error
      return failure(error.exitStatus === exitStatus.notFound ? 404 : 503, error)
    }
  }
  return settings.files.get(path) ?? nothing
}

const seeList = '/api/openapi.json lists the paths and what they take.'

/**
 * URLPattern would percent-encode the path, which is decoded already, and take out its dots.
 *
 * @returns what is in place of the names in braces; undefined if the path is another one
 */
function namesIn(pattern: readonly string[], parts: readonly string[]): string[] | undefined {
  if (parts.length !== pattern.length) return undefined
  const isName = (part: string) => part.startsWith('{')
  const isMatch = pattern.every((part, place) =>
    isName(part) ? parts[place] !== '' : part === parts[place],
  )
  return isMatch ? parts.filter((_, place) => isName(pattern[place] ?? '')) : undefined
}
