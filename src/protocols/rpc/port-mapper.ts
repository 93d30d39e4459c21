/**
 * The port mapper [RFC 1833] tells clients the port of a program. It knows only our own programs,
 * and accepts no registrations.
 *
 * Kernels and libraries use version 2 over IPv4; `rpcinfo` uses versions 3 and 4.
 */
import { isIPv6 } from 'node:net'
import { nullProcedure, type Procedure, type Program } from './program.ts'
import type { XdrReader } from './xdr.ts'

export interface Registration {
  program: number
  version: number
  transport: 'tcp' | 'udp'
  port: number
}

export const portMapperProgram = 100000

const protocolNumber = { tcp: 6, udp: 17 } as const
const maxNameBytes = 1024
const owner = 'superuser'

/**
 * @param address the address that the servers listen on; versions 3 and 4 answer with it
 * @param registrations read at each call, because the ports are known only after the servers listen
 */
export function portMapper(address: string, registrations: readonly Registration[]): Program {
  const getPort: Procedure = (call, results) => {
    const program = call.arguments.uint32()
    const version = call.arguments.uint32()
    const protocol = call.arguments.uint32()
    call.arguments.uint32() // a port, which has no meaning here
    const found = find(program, version, ({ transport }) => protocolNumber[transport] === protocol)
    results.uint32(found?.port ?? 0)
    return undefined
  }

  const dump: Procedure = (_call, results) => {
    for (const { program, version, transport, port } of registrations) {
      results.boolean(true)
      results.uint32(program)
      results.uint32(version)
      results.uint32(protocolNumber[transport])
      results.uint32(port)
    }
    results.boolean(false)
    return undefined
  }

  /** RPCBPROC_GETADDR: the answer is for the transport of the call, as in version 3 of the RFC. */
  const getAddress: Procedure = (call, results) => {
    const { program, version } = readBinding(call.arguments)
    const found = find(program, version, ({ transport }) => transport === call.caller.transport)
    results.string(found ? universalAddress(address, found.port) : '')
    return undefined
  }

  const dumpAddresses: Procedure = (_call, results) => {
    for (const { program, version, transport, port } of registrations) {
      results.boolean(true)
      results.uint32(program)
      results.uint32(version)
      results.string(isIPv6(address) ? `${transport}6` : transport)
      results.string(universalAddress(address, port))
      results.string(owner)
    }
    results.boolean(false)
    return undefined
  }

  /**
   * If there is no such version, any version is returned: the program itself then tells its
   * versions.
   */
  function find(
    program: number,
    version: number,
    counts: (registration: Registration) => boolean,
  ): Registration | undefined {
    const candidates = registrations.filter(
      (registration) => registration.program === program && counts(registration),
    )
    return candidates.find((candidate) => candidate.version === version) ?? candidates[0]
  }

  const byAddress = [nullProcedure, undefined, undefined, getAddress, dumpAddresses]
  return {
    number: portMapperProgram,
    versions: new Map([
      [2, [nullProcedure, undefined, undefined, getPort, dump]],
      [3, byAddress],
      [4, byAddress],
    ]),
  }
}

/** [RFC 1833 §2.1, rpcb]; the fields after the version have no meaning here. */
function readBinding(reader: XdrReader): { program: number; version: number } {
  const program = reader.uint32()
  const version = reader.uint32()
  for (const _ of ['netid', 'address', 'owner']) reader.opaque(maxNameBytes)
  return { program, version }
}

/** The address and the two bytes of the port, separated by dots [RFC 5665 §5.2.3.3]. */
function universalAddress(address: string, port: number): string {
  return `${address}.${port >> 8}.${port & 0xff}`
}
