/**
 * Requests that must not be done twice.
 *
 * A client that lost its connection sends its calls again, with the same number. What a REMOVE did
 * is done, and a second one would fail; so the first reply is kept, in the layer and as safely as
 * what the request did there, and given again, even after a restart.
 */
import { hash } from 'node:crypto'
import type { XdrWriter } from '../rpc/xdr.ts'
import type { Awaited, NfsCall } from './call.ts'

/** @param run writes the results of success */
export function once(
  call: NfsCall,
  results: XdrWriter,
  run: () => Awaited | undefined,
): Awaited | undefined {
  const { fileSystem } = call.served
  const key = keyOf(call)
  const known = fileSystem.recallReply(key)
  if (known) {
    results.fixed(known)
    return 'structure'
  }
  const start = results.length
  // A failure has done nothing: it may fail again.
  return fileSystem.together(() => {
    // It may run a second time.
    results.truncate(start)
    const awaited = run()
    fileSystem.rememberReply(key, Buffer.from(results.written(start)))
    return awaited
  })
}

/**
 * The number alone would not do: a machine that boots again may count from the same one. The
 * credentials' stamp and machine name are left out: clients may change them from one sending to
 * the next.
 */
function keyOf(call: NfsCall): Buffer {
  const head = Buffer.alloc(16)
  head.writeUInt32BE(call.xid)
  head.writeUInt32BE(call.procedure, 4)
  head.writeUInt32BE(call.credentials.uid, 8)
  head.writeUInt32BE(call.credentials.gid, 12)
  return hash('sha256', Buffer.concat([head, call.arguments.since(call.argumentsStart)]), 'buffer')
}
