/** Records boots and their events, for `netimage boots`. */
import type { DatabaseSync } from 'node:sqlite'

import { messageOf, NetimageError } from '../errors.ts'
import type { ServeEvent } from '../protocols/event.ts'
import { createBatch } from './batch.ts'
import type { Boot } from './follow.ts'
import type { RecordedEvent } from './read.ts'

export interface BootRecord {
  /**
   * Adds an event of a boot. All events of one turn of the event loop are written in one
   * transaction at its end. A transaction for each event would cost a busy server a third of its
   * time.
   *
   * @param isServed whether the machine is served; machines that are not are counted apart
   */
  add(boot: Boot, event: ServeEvent, at: number, isServed: boolean): void
  /** Writes all added events. */
  flush(): void
}

interface Added {
  boot: Boot
  events: RecordedEvent[]
  isServed: boolean
}

/**
 * Boots that are kept. 10,000 is more than a year of some twenty machines that boot every day.
 * Boots of strangers (machines that are not served) are counted apart, so that they displace no
 * others.
 */
const kept = { machines: 10_000, strangers: 200 }
/** Events that are kept of a boot, so that a machine that asks without end cannot fill the disk. */
const keptEvents = { machines: 2000, strangers: 100 }

/** @param onError called once for a row of failures, not for each event while the disk is full */
export function recordBoots(
  database: DatabaseSync,
  onError: (error: NetimageError) => void,
): BootRecord {
  const upsert = database.prepare(
    `INSERT INTO boots (machine, started, boot, served) VALUES (?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET boot = excluded.boot, served = excluded.served RETURNING id`,
  )
  const count = database.prepare('SELECT count(*) AS events FROM events WHERE boot = ?')
  const insert = database.prepare('INSERT INTO events (boot, at, event) VALUES (?, ?, ?)')
  const forget = database.prepare(
    `DELETE FROM boots WHERE served = ?1 AND id <=
       (SELECT id FROM boots WHERE served = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)`,
  )
  /** The highest number of a boot so far. Old boots are deleted only when a new boot comes. */
  let newest = 0
  /** A shard tells each event of a boot with another copy of the boot. The last copy is kept. */
  let added = new Map<string, Added>()

  function keep(): void {
    const boots = added
    added = new Map()
    let isNew = false
    for (const { boot, events, isServed } of boots.values()) {
      const id = keepBoot(boot, events, isServed)
      isNew ||= id > newest
      newest = Math.max(newest, id)
    }
    if (isNew) {
      forget.run(1, kept.machines)
      forget.run(0, kept.strangers)
    }
  }

  const batch = createBatch({
    database,
    write: keep,
    toError: (cause) => keepError(database, cause),
    onError,
  })

  /** @returns the boot's number; the newest boot has the highest */
  function keepBoot(boot: Boot, events: readonly RecordedEvent[], isServed: boolean): number {
    const row = upsert.get(boot.machine, boot.started, JSON.stringify(boot), isServed ? 1 : 0)
    const id = Number(row?.['id'])
    const most = isServed ? keptEvents.machines : keptEvents.strangers
    const left = most - Number(count.get(id)?.['events'])
    for (const { at, event } of events.slice(0, Math.max(0, left))) {
      insert.run(id, at, JSON.stringify(event))
    }
    return id
  }

  return {
    add(boot, event, at, isServed) {
      batch.isDue()
      const key = `${boot.machine} ${boot.started}`
      const events = added.get(key)?.events ?? []
      events.push({ at, event })
      added.set(key, { boot, events, isServed })
    },
    flush: batch.flush,
  }
}

function keepError(database: DatabaseSync, error: unknown): NetimageError {
  return new NetimageError(
    'file-system',
    `could not record a boot in ${database.location()}: ${messageOf(error)}`,
    {
      cause: error,
      hint: 'Make room on the disk. Machines still boot, but `netimage boots` will not show it.',
    },
  )
}
