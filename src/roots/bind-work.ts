/**
 * What the parts of a binding share: see bind.ts. A binding goes on in pieces. Nobody sees what it has done
 * until all is done.
 */
import type { DataCopies } from './bind-data.ts'
import type { LayerDatabase } from './database.ts'
import { firstNewCookie } from './directories.ts'
import type { Kept } from './kept-files.ts'
import type { LayerImage } from './layer-image.ts'
import { mayBeLost } from './nodes.ts'
import { firstOwn } from './numbers.ts'
import type { Steps } from './steps.ts'

/** Numbers and cookies that a binding gives. */
export interface Given {
  node(): number
  cookie(): number
  /** Keeps in the database which are the next ones. */
  write(): void
}

/** To be called in the transaction of the binding. */
export function createGiven(database: LayerDatabase): Given {
  const next = {
    // As in nodes.ts: a loss of power may have taken nodes whose handles a machine still has.
    nextNode: Number(database.readMeta('nextNode') ?? firstOwn) + mayBeLost,
    nextCookie: Number(database.readMeta('nextCookie') ?? firstNewCookie),
  }
  const changed = new Set<keyof typeof next>()
  const give = (name: keyof typeof next) => {
    changed.add(name)
    return next[name]++
  }
  return {
    node: () => give('nextNode'),
    cookie: () => give('nextCookie'),
    write() {
      for (const name of changed) database.writeMeta(name, next[name])
    },
  }
}

/** What the parts of a binding work on. */
export interface BindWork {
  database: LayerDatabase
  /** The images that the layer is bound to now. */
  now: LayerImage
  /** The image before; undefined if it cannot be had. */
  before: () => Steps<LayerImage | undefined>
  data: DataCopies
  given: Given
  /** Gets what stays although the image brings something else. */
  kept: Kept
}

/** All of them, read before any of them is changed. */
export function* readAll<T>(rows: Iterable<T>): Steps<T[]> {
  const all: T[] = []
  for (const row of rows) {
    all.push(row)
    yield
  }
  return all
}
