/** [RFC 1813 §3.3.4] */
import type { Attributes } from '../file-system.ts'
import { writeAttributesNow } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'
import { may, permits } from '../permission.ts'
import { accessBit } from '../protocol.ts'

/** The mode bits that each kind of access needs. A kind that a node cannot have is not granted. */
const ofDirectories = [
  [accessBit.read, may.read],
  [accessBit.lookup, may.execute],
  [accessBit.modify, may.write | may.execute],
  [accessBit.extend, may.write | may.execute],
  [accessBit.delete, may.write | may.execute],
] as const
const ofOthers = [
  [accessBit.read, may.read],
  [accessBit.modify, may.write],
  [accessBit.extend, may.write],
  [accessBit.execute, may.execute],
] as const

export const access: NfsProcedure = {
  name: 'ACCESS',
  failure: ['attributes'],
  run(call, node, results) {
    const asked = call.arguments.uint32()
    writeAttributesNow(results, call.served, node)
    results.uint32(asked & granted(node, call.credentials))
    return undefined
  },
}

function granted(node: Attributes, credentials: Parameters<typeof permits>[1]): number {
  const rights = node.kind === 'directory' ? ofDirectories : ofOthers
  return rights.reduce(
    (bits, [bit, wanted]) => (permits(node, credentials, wanted) ? bits | bit : bits),
    0,
  )
}
