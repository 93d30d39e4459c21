/** Serves NFS version 3 and MOUNT on connections and in datagrams that were received elsewhere. */
import { asNetimageError, fileSystemError, messageOf, NetimageError } from '../../errors.ts'
import { defect } from '../defect.ts'
import type { Report } from '../event.ts'
import type { Caller, Program } from '../rpc/program.ts'
import { createTcpService, type TcpServiceOptions } from '../rpc/tcp-server.ts'
import { createAnswerDatagram, type AnswerDatagram } from '../rpc/udp-server.ts'
import type { TcpService } from '../tcp-listener.ts'
import { handleKeyBytes } from './handle.ts'
import { createServe, type MachineOf } from './machine.ts'
import { createMountProgram } from './mount.ts'
import { createNfsProgram, type Observation } from './program.ts'
import { mountVersion, nfsVersion } from './protocol.ts'

export interface NfsServiceOptions extends Omit<
  TcpServiceOptions,
  'programs' | 'onDefect' | 'hasLongCalls'
> {
  machineOf: MachineOf
  /**
   * 32 secret bytes. If the key changes at a restart, running machines lose their root.
   */
  handleKey: Buffer
  report: Report
  /** Called after each operation that succeeded. Its errors go to `onError`, not to the machine. */
  observe?: (observation: Observation) => void
  /** Called with errors that no machine caused: a failing disk, a defect of netimage. */
  onError: (error: NetimageError) => void
}

/** `accept` serves connections to the port that NFS and MOUNT share. */
export interface NfsService extends TcpService {
  /** Answers calls of MOUNT. */
  answerDatagram: AnswerDatagram
}

export function createNfsService(options: NfsServiceOptions): NfsService {
  const { nfs, mount } = createPrograms(options)
  const onDefect = (error: unknown) => options.onError(defect('NFS', error))
  return {
    ...createTcpService({ ...options, programs: [nfs, mount], hasLongCalls: true, onDefect }),
    answerDatagram: createAnswerDatagram({ programs: [mount], onDefect }),
  }
}

/** The highest version of these protocols. */
const maxVersion = 4

function createPrograms(options: NfsServiceOptions): { nfs: Program; mount: Program } {
  const { machineOf, handleKey, report, observe, onError } = options
  if (handleKey.length !== handleKeyBytes)
    throw new RangeError(`the key of handles must have ${handleKeyBytes} bytes`)

  const serve = createServe(handleKey)
  const otherVersion = (name: string, own: number) => (caller: Caller, version: number) => {
    // Programs that search for versions ask for versions that do not exist. This is not reported.
    if (version === 0 || version > maxVersion) return
    const reason = `the machine asks for ${name} version ${version}, but this server has only version ${own}`
    report({ kind: 'nfs', step: 'refuse', address: caller.address, path: '', reason })
  }
  const mount = {
    ...createMountProgram({ machineOf, serve, report }),
    onOtherVersion: otherVersion('MOUNT', mountVersion),
  }
  const nfsProgramOfAll = createNfsProgram({
    machineOf,
    serve,
    onFailure: ({ caller: { address } }, procedure, error) => {
      const doing = `${procedure} for ${address} failed`
      const cause = { cause: error }
      onError(new NetimageError('file-system', `${doing}: ${messageOf(error)}`, cause))
    },
    observe,
    onUnobserved: ({ machine, procedure }, error) => {
      const doing = `could not follow what ${machine} does in its root (${procedure})`
      const hint = 'The machine itself goes on: its operation succeeded.'
      onError(asNetimageError(fileSystemError(doing, error, { hint })))
    },
  })
  const nfs = { ...nfsProgramOfAll, onOtherVersion: otherVersion('NFS', nfsVersion) }
  return { nfs, mount }
}
