/** [RFC 1813 §3.3.11] */
import { XdrError, type XdrReader } from '../../rpc/xdr.ts'
import { readWantedAttributes, type WantedAttributes } from '../attributes.ts'
import { readEntryName, type NfsProcedure } from '../call.ts'
import { makeNodeOnce, type NodeToMake } from '../change.ts'
import { NfsError, typeNumber } from '../protocol.ts'

export const mknod: NfsProcedure = {
  name: 'MKNOD',
  failure: ['change'],
  run(call, directory, results) {
    const name = readEntryName(call, 'NFS3ERR_EXIST')
    const { node, wanted } = readSpecial(call.arguments)
    return makeNodeOnce(call, directory, name, { node, wanted, results })
  },
}

function readSpecial(reader: XdrReader): { node: NodeToMake; wanted: WantedAttributes } {
  const type = reader.uint32()
  switch (type) {
    case typeNumber.character:
    case typeNumber.block: {
      const kind = type === typeNumber.block ? 'block' : 'character'
      const wanted = readWantedAttributes(reader)
      const device = { major: reader.uint32(), minor: reader.uint32() }
      return { node: { kind, device }, wanted }
    }
    case typeNumber.socket:
      return { node: { kind: 'socket' }, wanted: readWantedAttributes(reader) }
    case typeNumber.fifo:
      return { node: { kind: 'fifo' }, wanted: readWantedAttributes(reader) }
    case typeNumber.file:
    case typeNumber.directory:
    case typeNumber.symlink:
      throw new NfsError('NFS3ERR_BADTYPE')
    default:
      throw new XdrError(`${type} is not a type of a node`)
  }
}
