/** [RFC 1813 §3.3.8] */
import type { Attributes, NodeId } from '../file-system.ts'
import { XdrError, type XdrReader } from '../../rpc/xdr.ts'
import { readWantedAttributes, type WantedAttributes } from '../attributes.ts'
import { readEntryName, type Awaited, type NfsCall, type NfsProcedure } from '../call.ts'
import { changeAttributes, makeNode, writeMade } from '../change.ts'
import { requireSearch } from '../permission.ts'
import { NfsError } from '../protocol.ts'
import { once } from '../reply-cache.ts'

type Manner =
  | { how: 'unchecked' | 'guarded'; wanted: WantedAttributes }
  | { how: 'exclusive'; wanted: MarkingTimes }

/**
 * The verifier of the client, kept in the times of the file. So the server recognises a repeated
 * request, even after a restart. The client sets the right times afterwards.
 */
interface MarkingTimes {
  accessed: { seconds: number; nanoseconds: 0 }
  modified: { seconds: number; nanoseconds: 0 }
}

const createMode = { unchecked: 0, guarded: 1, exclusive: 2 } as const

export const create: NfsProcedure = {
  name: 'CREATE',
  failure: ['change'],
  run(call, directory, results) {
    const name = readEntryName(call, 'NFS3ERR_EXIST')
    const manner = readManner(call.arguments)
    return manner.how === 'unchecked' ? act() : once(call, results, act)

    function act(): Awaited {
      requireSearch(directory, call.credentials)
      const existing = call.served.fileSystem.lookup(directory.id, name)
      if (existing !== undefined) takeExisting(call, existing, manner)
      const file = existing ?? makeNode(call, directory, name, { kind: 'file' }, manner.wanted)
      writeMade(call, directory, file, results)
      return 'structure'
    }
  },
}

function readManner(reader: XdrReader): Manner {
  const how = reader.uint32()
  switch (how) {
    case createMode.unchecked:
      return { how: 'unchecked', wanted: readWantedAttributes(reader) }
    case createMode.guarded:
      return { how: 'guarded', wanted: readWantedAttributes(reader) }
    case createMode.exclusive:
      return {
        how: 'exclusive',
        wanted: {
          accessed: { seconds: reader.uint32(), nanoseconds: 0 },
          modified: { seconds: reader.uint32(), nanoseconds: 0 },
        },
      }
    default:
      throw new XdrError(`${how} is not a way to create`)
  }
}

/** Handles a file that exists already. @throws `NfsError` if it must not exist */
function takeExisting(call: NfsCall, id: NodeId, manner: Manner): void {
  const node = call.served.fileSystem.attributes(id)
  switch (manner.how) {
    case 'unchecked': {
      if (node.kind === 'directory') throw new NfsError('NFS3ERR_EXIST')
      // Change only the size; the file keeps its other attributes.
      const { size } = manner.wanted
      if (node.kind === 'file' && size !== undefined) changeAttributes(call, node, { size })
      return
    }
    case 'guarded':
      throw new NfsError('NFS3ERR_EXIST')
    case 'exclusive':
      if (!isMarked(node, manner.wanted)) throw new NfsError('NFS3ERR_EXIST')
  }
}

function isMarked(node: Attributes, { accessed, modified }: MarkingTimes): boolean {
  return (
    node.kind === 'file' &&
    node.size === 0 &&
    node.accessed.seconds === accessed.seconds &&
    node.accessed.nanoseconds === 0 &&
    node.modified.seconds === modified.seconds &&
    node.modified.nanoseconds === 0
  )
}
