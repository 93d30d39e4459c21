/** [RFC 1813 §3.3.2] */
import { isToldTime, readTime, readWantedAttributes, writeChange } from '../attributes.ts'
import type { Awaited, NfsProcedure } from '../call.ts'
import { changeAttributes } from '../change.ts'
import { NfsError } from '../protocol.ts'
import { once } from '../reply-cache.ts'

export const setattr: NfsProcedure = {
  name: 'SETATTR',
  failure: ['change'],
  run(call, node, results) {
    const reader = call.arguments
    const wanted = readWantedAttributes(reader)
    const guard = reader.boolean() ? readTime(reader) : undefined
    // The first run changes the time of the guard, so a repeated request would fail.
    return guard ? once(call, results, change) : change()

    function change(): Awaited {
      if (guard && !isToldTime(node.changed, guard)) throw new NfsError('NFS3ERR_NOT_SYNC')
      changeAttributes(call, node, wanted)
      writeChange(results, call.served, node)
      return 'structure'
    }
  },
}
