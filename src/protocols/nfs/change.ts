/** Making nodes and changing their attributes, for several procedures. */
import type { Attributes, NewNode, NodeId, Time } from './file-system.ts'
import type { XdrWriter } from '../rpc/xdr.ts'
import { writeAttributesAfter, writeChange, type WantedAttributes } from './attributes.ts'
import type { Awaited, NfsCall } from './call.ts'
import { allowedChanges, ownershipOfNew, requireModification, requireSearch } from './permission.ts'
import { NfsError } from './protocol.ts'
import { once } from './reply-cache.ts'

/** @throws `NfsError` if the caller lacks permission; then nothing is changed */
export function changeAttributes(call: NfsCall, node: Attributes, wanted: WantedAttributes): void {
  const changes = allowedChanges(node, wanted, call.credentials, now())
  if (Object.keys(changes).length > 0) call.served.fileSystem.setAttributes(node.id, changes)
}

/** The node to make. Its other attributes follow from the wanted attributes and the credentials. */
export type NodeToMake = Pick<NewNode, 'kind' | 'target' | 'device'>

/** Makes a node. The name must be free. */
export function makeNode(
  call: NfsCall,
  directory: Attributes,
  name: Buffer,
  node: NodeToMake,
  wanted: WantedAttributes,
): NodeId {
  const { credentials, served } = call
  const { fileSystem } = served
  requireSearch(directory, credentials)
  if (fileSystem.lookup(directory.id, name) !== undefined) throw new NfsError('NFS3ERR_EXIST')
  requireModification(directory, credentials)
  if (isDevice(node) && credentials.uid !== 0) throw new NfsError('NFS3ERR_PERM')
  const { accessed, modified, size = 0 } = wanted
  const made = fileSystem.create(directory.id, name, {
    ...node,
    ...ownershipOfNew(node.kind, wanted, directory, credentials),
    ...(accessed && accessed !== 'now' && { accessed }),
    ...(modified && modified !== 'now' && { modified }),
  })
  if (size > 0 && node.kind === 'file') fileSystem.setAttributes(made, { size })
  return made
}

/** The common part of MKDIR, SYMLINK and MKNOD, after their arguments are read. */
export function makeNodeOnce(
  call: NfsCall,
  directory: Attributes,
  name: Buffer,
  { node, wanted, results }: { node: NodeToMake; wanted: WantedAttributes; results: XdrWriter },
): Awaited | undefined {
  return once(call, results, () => {
    const made = makeNode(call, directory, name, node, wanted)
    writeMade(call, directory, made, results)
    return 'structure'
  })
}

/** Writes the results of all procedures that make a node. */
export function writeMade(
  call: NfsCall,
  directory: Attributes,
  made: NodeId,
  results: XdrWriter,
): void {
  const { served } = call
  call.seen.node = made
  results.boolean(true)
  results.opaque(served.handles.make(made))
  writeAttributesAfter(results, served, made)
  writeChange(results, served, directory)
}

function isDevice({ kind }: NodeToMake): boolean {
  return kind === 'character' || kind === 'block'
}

function now(): Time {
  const milliseconds = Date.now()
  return {
    seconds: Math.floor(milliseconds / 1000),
    nanoseconds: (milliseconds % 1000) * 1_000_000,
  }
}
