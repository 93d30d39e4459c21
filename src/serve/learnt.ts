/** What the server learnt in earlier runs, and its record of what it learns now. */
import { useBootDatabase } from '../boots/database.ts'
import { openFacts, type Facts } from '../boots/facts.ts'
import type { Boot } from '../boots/follow.ts'
import { readLastBoots } from '../boots/read.ts'
import { recordBoots, type BootRecord } from '../boots/record.ts'
import type { NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'
import { parseProcessor, type Processor } from './defaults.ts'

export interface Learnt {
  record: BootRecord
  facts: Pick<Facts, 'keep'>
  /** The last boot of each machine, the newest first. */
  boots: readonly Boot[]
  /** Hardware addresses by IP address. */
  addresses: ReadonlyMap<string, string>
  /** By hardware address. */
  processors: ReadonlyMap<string, Processor>
}

/** As many as the server remembers while it runs. */
const maxBoots = 4096

/**
 * @param unfinished closes the database at its end
 * @throws `NetimageError` `bad-state` if a newer netimage made the database; a broken one is replaced
 */
export function openLearnt(
  state: string,
  onError: (error: NetimageError) => void,
  unfinished: AsyncDisposableStack,
): Learnt {
  const { database, facts, boots } = useBootDatabase(state, onError, (database) => ({
    database,
    facts: openFacts(database, onError),
    boots: readLastBoots(database, maxBoots),
  }))
  unfinished.defer(() => database.close())
  unfinished.defer(() => facts.flush())
  const record = recordBoots(database, onError)
  unfinished.defer(() => record.flush())
  const processors = [...facts.known('processor')].flatMap(([mac, text]) => {
    const processor = parseProcessor(text)
    return processor === undefined ? [] : [[mac, processor] as const]
  })
  // A name from a damaged file must not become part of a path.
  const addresses = [...facts.known('address')].flatMap(([address, text]) => {
    const mac = parseMac(text)
    return mac === undefined ? [] : [[address, mac] as const]
  })
  return {
    ...{ record, facts, boots },
    addresses: new Map(addresses),
    processors: new Map(processors),
  }
}
