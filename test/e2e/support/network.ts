// A separate network for a test: a network namespace with a bridge. Servers listen on the bridge,
// and machines have their taps on it. Networks are isolated from each other. Many can exist at
// once, with the same addresses.
//
// Nothing is left behind after a test. The namespaces live as long as one process, the holder, and
// all processes die with the test process, even if it is killed. All programs have the same private
// /run and state directories, so daemons neither conflict with those of this machine nor leave
// files.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findProgram } from '../../support/packages.ts'
import { runProgram } from '../../support/real-nix.ts'
import { cacheDirectory } from './cache.ts'
import { startProgram, type Program } from './program.ts'

/** A place to run programs: the server, or another host of the network. */
export type Host = {
  /**
   * Starts a program there, and records its output.
   *
   * @param hopeless the program prints this only if it has failed for good
   */
  start: (name: string, command: readonly string[], hopeless?: RegExp) => Program
  /** Runs a program there to its end. @returns its output */
  run: (command: readonly string[]) => Promise<string>
  /** Whether a program there listens on a port. */
  listens: (protocol: 'tcp' | 'udp', port: number) => boolean
  /** A directory for files of the programs; removed with the network. */
  directory: string
}

export type Network = Host & {
  /** The address of the server, on the bridge. */
  server: string
  /** The interface that servers listen on. */
  bridge: string
  /** A tap for a machine, attached to the bridge. */
  addTap: () => Promise<string>
  /** Another host: nothing but a network card, `eth0`, that is up but has no address. */
  addHost: (mac: string) => Promise<Host>
  [Symbol.asyncDispose]: () => Promise<void>
}

const server = '10.66.0.1'
// A long name, like those of USB cards: the kernel's tables have no space after it.
const bridge = 'enx001122334455'
const bridgeMac = '52:54:00:ff:00:01'

/** The directories in which daemons keep their state. */
const stateDirectories = ['/run', '/var/lib', '/var/log']

// The IPv6 address: iPXE and UEFI wait until a router is advertised over IPv6.
const setUp = `
for directory in ${stateDirectories.join(' ')}; do
  mkdir -p "$1$directory"
  mount --bind "$1$directory" "$directory"
done
# Otherwise DHCP clients would write name servers to the /etc of this machine.
mkdir "$1/etc-changes" "$1/etc-work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc-changes,workdir=$1/etc-work" /etc
mkdir -p /run/kea /run/lock/kea /var/lib/kea /var/lib/misc /var/lib/nfs/ganesha
mount -t sysfs sysfs /sys
ip link set lo up
ip link add ${bridge} type bridge
ip address add ${server}/24 broadcast + dev ${bridge}
ip address add fd66::1/64 dev ${bridge} nodad
ip link set ${bridge} up
echo ready
exec sleep infinity
`

/** @param name the name of the folder for logs */
export async function openNetwork(name: string): Promise<Network> {
  if (process.getuid?.() !== 0) {
    throw new Error('Booting machines needs network namespaces and taps: run the test as root.')
  }
  const [ip, unshare, nsenter] = [findProgram('ip'), findProgram('unshare'), findProgram('nsenter')]
  const directory = mkdtempSync(join(tmpdir(), 'netimage-e2e-'))
  const logs = join(cacheDirectory('logs'), name)
  rmSync(logs, { recursive: true, force: true })
  mkdirSync(logs)

  const programs: Program[] = []
  let devices = 0
  function startHere(programName: string, command: readonly string[], hopeless?: RegExp): Program {
    const log = join(logs, `${String(programs.length + 1).padStart(2, '0')}-${programName}.log`)
    const others = () => programs
    const request = { name: programName, command, log, others }
    const program = startProgram(hopeless ? { ...request, hopeless } : request)
    programs.push(program)
    return program
  }

  /** The host with the namespaces of the holder. */
  function hostOf(holder: Program): Host {
    const namespaces = `/proc/${holder.pid}/ns`
    const enter = [nsenter, `--net=${namespaces}/net`, `--mount=${namespaces}/mnt`]
    // A process namespace for each program: if its first process is killed, all its processes are.
    // The first process is a shell, because the kernel keeps unhandled signals from a first
    // process.
    const shell = ['sh', '-c', '"$@"; exit $?', 'sh']
    const alone = [unshare, '--mount', '--mount-proc', '--pid', '--fork', '--kill-child', ...shell]
    return {
      start: (programName, command, hopeless) =>
        startHere(programName, [...enter, ...alone, ...command], hopeless),
      async run(command) {
        const [program = '', ...args] = [...enter, ...command]
        return await runProgram(program, args)
      },
      listens: (protocol, port) =>
        ['', '6'].some((family) => isBound(`/proc/${holder.pid}/net/${protocol}${family}`, port)),
      directory: mkdtempSync(join(directory, 'host-')),
    }
  }

  const shell = ['sh', '-euc', setUp, 'sh', join(directory, 'state')]
  const holder = startHere('network', [unshare, '--net', '--mount', ...shell])
  await holder.waitFor(/^ready$/)
  const host = hostOf(holder)
  const { run } = host

  async function plug(port: string): Promise<void> {
    await run([ip, 'link', 'set', port, 'master', bridge, 'up'])
    // A fixed hardware address: otherwise the bridge has the address of a port, which changes if
    // the port is removed. But then a bridge without ports has no carrier, and Kea needs one at its
    // start.
    await run([ip, 'link', 'set', bridge, 'address', bridgeMac])
  }

  return {
    ...host,
    server,
    bridge,
    async addTap() {
      const tap = `tap${devices++}`
      await run([ip, 'tuntap', 'add', tap, 'mode', 'tap'])
      await plug(tap)
      return tap
    },
    async addHost(mac) {
      const cable = `veth${devices++}`
      // No new process namespace: the test must find it by its process id.
      const namespaces = [
        nsenter,
        `--mount=/proc/${holder.pid}/ns/mnt`,
        unshare,
        '--net',
        '--mount',
      ]
      const script = 'ip link set lo up; echo ready; exec sleep infinity'
      const other = startHere(cable, [...namespaces, 'sh', '-euc', script])
      await other.waitFor(/^ready$/)
      const peer = ['peer', 'name', 'eth0', 'address', mac, 'netns', String(other.pid)]
      await run([ip, 'link', 'add', cable, 'type', 'veth', ...peer])
      await plug(cable)
      const otherHost = hostOf(other)
      await otherHost.run([ip, 'link', 'set', 'eth0', 'up'])
      return otherHost
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(programs.toReversed().map((program) => program.kill()))
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** In the kernel's list of sockets, the second word of a line is `<address>:<port>` in hex. */
function isBound(list: string, port: number): boolean {
  const end = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  return readFileSync(list, 'utf8')
    .split('\n')
    .some((line) => line.trim().split(/\s+/)[1]?.endsWith(end))
}
