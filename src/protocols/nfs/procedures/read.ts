/** [RFC 1813 §3.3.6] */
import { writeAttributesNow } from '../attributes.ts'
import type { NfsProcedure } from '../call.ts'
import { requireReading } from '../permission.ts'
import { maxTransfer } from '../protocol.ts'

export const read: NfsProcedure = {
  name: 'READ',
  failure: ['attributes'],
  run(call, file, results) {
    const { served } = call
    const { fileSystem } = served
    const offset = call.arguments.uint64()
    const count = call.arguments.uint32()
    requireReading(file, call.credentials)
    const wanted = Math.max(0, Math.min(count, maxTransfer, file.size - offset))
    writeAttributesNow(results, served, file)
    const countAt = results.length
    results.uint32(0)
    results.boolean(false)
    const bytes = results.opaqueInPlace(wanted, (room) =>
      wanted === 0 ? 0 : fileSystem.read(file.id, offset, room),
    )
    results.replaceUint32(countAt, bytes)
    results.replaceUint32(countAt + 4, offset + bytes >= file.size ? 1 : 0)
    call.seen.bytes = bytes
    return undefined
  },
}
