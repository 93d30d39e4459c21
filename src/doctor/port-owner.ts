/**
 * Which programs have a port of this computer: by the kernel's tables of sockets and the open files of all
 * processes, proc(5).
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

import { readKernelTable } from '../protocols/kernel-table.ts'

export interface PortOwner {
  name: string
  pid: number
  /** The unit of systemd that the process belongs to, as in `dnsmasq.service`. */
  unit: string | undefined
}

export interface PortOwners {
  /** In the order of their numbers. */
  processes: PortOwner[]
  /** Whether the kernel's NFS server has the port. */
  isKernelNfs: boolean
  /** Whether this user may not look at all processes, so that another one may have the port as well. */
  isPartial: boolean
}

export interface WantedPort {
  transport: 'tcp' | 'udp'
  port: number
  /** The IPv4 address that should be listened on. */
  address: string
}

const nfsPort = 2049

/** @param proc the directory of proc(5) */
export function ownersOf(wanted: WantedPort, proc = '/proc'): PortOwners {
  const inodes = new Set(
    ['', '6'].flatMap((family) => {
      const table = readKernelTable(join(proc, 'net', `${wanted.transport}${family}`))
      return table === undefined ? [] : socketsIn(table, wanted)
    }),
  )
  const { processes, isPartial } = processesWith(inodes, proc)
  const isKernelNfs =
    inodes.size > 0 && processes.length === 0 && wanted.port === nfsPort && runsNfsd(proc)
  return { processes, isKernelNfs, isPartial: isPartial && !isKernelNfs }
}

const [listening, unconnected, established] = ['0A', '07', '01']

/**
 * @param table as /proc/net/tcp and its like: `sl local_address rem_address st … inode`
 * @returns the inodes of the sockets that have the port; 0 for some of the kernel's own
 */
export function socketsIn(table: string, { transport, port, address }: WantedPort): string[] {
  const states = transport === 'tcp' ? [listening] : [unconnected, established]
  return table
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, local = '', , state = '', , , , , , inode = ''] = line.trim().split(/\s+/)
      const [hexAddress = '', hexPort = ''] = local.split(':')
      const isWanted =
        states.includes(state) &&
        Number.parseInt(hexPort, 16) === port &&
        covers(hexAddress, address)
      return isWanted && /^\d+$/.test(inode) ? [inode] : []
    })
}

/**
 * Whether a socket with the address of the table takes the port from the address: it is the same, one for
 * all, or, for UDP, that of broadcasts. The table has the words of the address in the byte order of this
 * computer.
 */
function covers(hex: string, address: string): boolean {
  if (/^(?:0+|[Ff]{8})$/.test(hex)) return true
  const bytes = Buffer.from(address.split('.').map(Number))
  const word = new Uint32Array(new Uint8Array(bytes).buffer)[0] ?? 0
  const own = word.toString(16).toUpperCase().padStart(8, '0')
  return hex === own || (hex.length === 32 && hex.endsWith(own))
}

function processesWith(
  inodes: ReadonlySet<string>,
  proc: string,
): Pick<PortOwners, 'processes' | 'isPartial'> {
  const processes: PortOwner[] = []
  let isPartial = false
  if (inodes.size === 0) return { processes, isPartial }
  const pids = readdirSync(proc).filter((name) => /^\d+$/.test(name))
  for (const pid of pids.map(Number).toSorted((a, b) => a - b)) {
    const directory = join(proc, String(pid))
    const sockets = socketsOf(directory)
    if (sockets === 'hidden') isPartial = true
    else if (sockets.some((inode) => inodes.has(inode))) {
      const name = readOrEmpty(join(directory, 'comm')).trim() || '?'
      processes.push({ name, pid, unit: unitIn(readOrEmpty(join(directory, 'cgroup'))) })
    }
  }
  return { processes, isPartial }
}

function socketsOf(directory: string): string[] | 'hidden' {
  let files: string[]
  try {
    files = readdirSync(join(directory, 'fd'))
  } catch (error) {
    const isGone = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    return isGone ? [] : 'hidden'
  }
  return files.flatMap((file) => {
    try {
      const [, inode] = /^socket:\[(\d+)\]$/.exec(readlinkSync(join(directory, 'fd', file))) ?? []
      return inode ?? []
    } catch {
      // The process has closed the file meanwhile.
      return []
    }
  })
}

/**
 * Units of a person's session and of a container have other managers: stopping the unit of this
 * computer's systemd around them would end the whole session or container.
 *
 * @param cgroup lines such as `0::/system.slice/dnsmasq.service`; see cgroups(7)
 * @returns undefined if no unit of this computer's systemd stands for the process alone
 */
export function unitIn(cgroup: string): string | undefined {
  return cgroup
    .split('\n')
    .flatMap((line) => {
      const [, unit = '', below = ''] =
        /^\d+:[^:]*:(?:\/[^/]+\.slice)*\/([\w@.:-]+\.service)(\/.*)?$/.exec(line) ?? []
      const isAround = unit.startsWith('user@') || /\.(?:service|scope|slice)(?:\/|$)/.test(below)
      return unit === '' || isAround ? [] : [unit]
    })
    .at(0)
}

/** The threads of the kernel's NFS server have this name. */
function runsNfsd(proc: string): boolean {
  return readdirSync(proc).some(
    (name) => /^\d+$/.test(name) && readOrEmpty(join(proc, name, 'comm')).trim() === 'nfsd',
  )
}

/** A process may end at any time. */
function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
