/**
 * The reply cache, for requests that must not run twice.
 *
 * If a client loses its connection, it sends its calls again, with the same numbers. For example, a
 * second REMOVE would fail although the first one succeeded. So the first reply is kept in the
 * layer, as safely as the changes of the request, and sent again, even after a restart.
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
  // A failure has changed nothing, so its reply is not kept.
  return fileSystem.together(() => {
    // `together` may run this a second time.
    results.truncate(start)
    const awaited = run()
    fileSystem.rememberReply(key, Buffer.from(results.written(start)))
    return awaited
  })
}

/**
 * The number alone is not enough: a machine may use the same numbers after its next boot. The stamp
 * and the machine name of the credentials are left out, because a client may change them when it
 * sends again.
 */
function keyOf(call: NfsCall): Buffer {
  const head = Buffer.alloc(16)
  head.writeUInt32BE(call.xid)
  head.writeUInt32BE(call.procedure, 4)
  head.writeUInt32BE(call.credentials.uid, 8)
  head.writeUInt32BE(call.credentials.gid, 12)
  return hash('sha256', Buffer.concat([head, call.arguments.since(call.argumentsStart)]), 'buffer')
}
