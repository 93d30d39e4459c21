/** What the server learnt in earlier runs, and its record of what it learns now. */
import { recordFile, useBootDatabase } from '../boots/database.ts'
import { openFacts, readFacts, type Facts } from '../boots/facts.ts'
import type { Boot } from '../boots/follow.ts'
import { readLastBoots } from '../boots/read.ts'
import { recordBoots, type BootRecord } from '../boots/record.ts'
import { explained, NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'
import { remember } from '../remember.ts'
import { readWithoutRoom } from '../state-database.ts'
import { parseProcessor, type Processor } from './defaults.ts'

export interface Learnt {
  record: Pick<BootRecord, 'add'>
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
/** How often a full disk is tried again. Milliseconds. */
const retryMs = 5000

/**
 * @param unfinished closes the database at its end
 * @throws `NetimageError` `bad-state` if a newer netimage made the database; a broken one is replaced
 */
export function openLearnt(
  state: string,
  onError: (error: NetimageError) => void,
  unfinished: AsyncDisposableStack,
): Learnt {
  const { known, boots, facts, record } = openOrWait(state, onError, unfinished)
  const processors = [...known('processor')].flatMap(([mac, text]) => {
    const processor = parseProcessor(text)
    return processor === undefined ? [] : [[mac, processor] as const]
  })
  // A name from a damaged file must not become part of a path.
  const addresses = [...known('address')].flatMap(([address, text]) => {
    const mac = parseMac(text)
    return mac === undefined ? [] : [[address, mac] as const]
  })
  return {
    ...{ record, facts, boots },
    addresses: new Map(addresses),
    processors: new Map(processors),
  }
}

type Opened = Pick<Learnt, 'record' | 'facts' | 'boots'> & Pick<Facts, 'known'>

/** If the disk is full, the database is opened once there is room, and no boot is recorded until then. */
function openOrWait(
  state: string,
  onError: (error: NetimageError) => void,
  unfinished: AsyncDisposableStack,
): Opened {
  const closing = new DisposableStack()
  unfinished.defer(() => closing.dispose())
  const open = () => openNow(state, onError, closing)
  try {
    return open()
  } catch (error) {
    if (!(error instanceof NetimageError && error.code === 'disk-full')) throw error
    const found = readWithoutRoom(recordFile(state), (database) => ({
      known: readFacts(database),
      boots: readLastBoots(database, maxBoots),
    }))
    const hint = 'Make room on the disk. Machines still boot, but until then no boot is recorded.'
    onError(explained(error, error.message, {}, hint))
    return { ...(found ?? { known: () => new Map(), boots: [] }), ...openLater(open, closing) }
  }
}

function openNow(
  state: string,
  onError: (error: NetimageError) => void,
  closing: DisposableStack,
): Opened {
  const { database, ...opened } = useBootDatabase(state, onError, (database) => {
    const facts = openFacts(database, onError)
    const record = recordBoots(database, onError)
    const boots = readLastBoots(database, maxBoots)
    return { database, known: facts.known, boots, facts, record }
  })
  closing.defer(() => database.close())
  closing.defer(() => opened.facts.flush())
  closing.defer(() => opened.record.flush())
  return opened
}

/** Facts wait until the database is open. */
function openLater(open: () => Opened, closing: DisposableStack): Pick<Opened, 'facts' | 'record'> {
  const waiting = new Map<string, Parameters<Facts['keep']>>()
  let opened: Opened | undefined
  const trying = setInterval(() => {
    try {
      opened = open()
    } catch {
      // It was told at the start that the disk is full.
      return
    }
    clearInterval(trying)
    for (const fact of waiting.values()) opened.facts.keep(...fact)
    waiting.clear()
  }, retryMs)
  closing.defer(() => clearInterval(trying))
  return {
    facts: {
      keep(kind, about, fact) {
        if (opened) opened.facts.keep(kind, about, fact)
        else remember(waiting, `${kind} ${about}`, [kind, about, fact])
      },
    },
    record: { add: (...event) => opened?.record.add(...event) },
  }
}
