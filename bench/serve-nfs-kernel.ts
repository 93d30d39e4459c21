/**
 * Measures common work of the kernel's NFS client on our server, on nfs-ganesha and on the kernel's server: its
 * time, the processor time of the server, the bytes that it sent, and the calls. The client is a machine in User
 * Mode Linux. The kernel's server and ours run in the same emulated machine as well, and the processor time is
 * then that of the emulator, which needs some ten times as much as a processor.
 *
 *     node bench/serve-nfs-kernel.ts [--rounds 3] [--files 1000] [mount options …]
 *
 * Our server is also mounted with each of the given mount options, for example `noatime` or
 * `nocto,actimeo=600`. `read_ahead_kb=1024` sets how much the client reads ahead.
 *
 * Needs root and the Debian packages user-mode-linux, nfs-ganesha-vfs, rpcbind, git, sqlite3 and qemu-system-x86.
 * Run `sh scripts/build-user-mode-linux.sh` before.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'

import { ganeshaConfiguration } from '../test/e2e/support/configuration.ts'
import { startGanesha } from '../test/e2e/support/daemons.ts'
import { openNetwork } from '../test/e2e/support/network.ts'
import { startHostedClient } from '../test/protocols/support/hosted-client.ts'
import { findProgram } from '../test/support/packages.ts'
import { guestAddress, guestPort, guestTree, startNfsGuest } from './nfs-guest.ts'
import { countProcessorTime } from './processor-time.ts'
import { beginTable, measured, mebibytes, median } from './report.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '3' },
    files: { type: 'string', default: '1000' },
  },
})
const rounds = Number(values.rounds)
const works = 10
const programs = ['bash', 'curl', 'git', 'gpg', 'perl', 'sqlite3', 'tar']

interface Sample {
  /** As the machine prints them. */
  contender: string
  work: string
  seconds: number
  processorSeconds: number
  /** Bytes of all answers. */
  received: number
  calls: Map<string, number>
}

/** What the client mounts. */
interface Mount {
  name: string
  /** Seconds of processor time of the server, and of all that runs in its machine if it has one. */
  used: () => number
  device: string
  options: string
  /** KiB that the client reads ahead; empty for its default. */
  ahead: string
}

const samples: Sample[] = []
const directory = mkdtempSync(join(tmpdir(), 'netimage-bench-kernel-'))
const trees = { ganesha: join(directory, 'ganesha'), netimage: join(directory, 'netimage') }
try {
  makeTree(trees.netimage)
  cpSync(trees.netimage, trees.ganesha, { recursive: true })
  await measured(measure)
  printTables()
} finally {
  rmSync(directory, { recursive: true })
}

/** A store, a git repository, some programs with their libraries, a large file, a place to write. */
function makeTree(tree: string): void {
  for (const name of ['bin', 'lib', 'work']) mkdirSync(join(tree, name), { recursive: true })
  writeFileSync(join(tree, 'large'), randomBytes(64 * 2 ** 20))
  const files = Number(values.files)
  for (const [name, perFolder] of [
    ['store', 50],
    ['files', 20],
  ] as const) {
    for (let index = 0; index < files; index++) {
      const folder = join(tree, name, `folder${Math.floor(index / perFolder)}`, 'share')
      if (index % perFolder === 0) mkdirSync(folder, { recursive: true })
      writeFileSync(join(folder, `file${index}`), randomBytes((index * 37) % 9000))
    }
  }
  for (const name of programs) {
    const program = findProgram(name)
    copyFileSync(program, join(tree, 'bin', name))
    const listed = execFileSync('ldd', [program], { encoding: 'utf8' })
    for (const [, library = ''] of listed.matchAll(/=> (\/\S+)/g)) {
      copyFileSync(library, join(tree, 'lib', basename(library)))
    }
  }
  const git = (...args: string[]) => execFileSync('git', ['-C', join(tree, 'files'), ...args])
  git('init', '--quiet')
  git('add', '.')
  git('-c', 'user.name=bench', '-c', 'user.email=bench@localhost', 'commit', '-qm', 'bench')
  git('gc', '--quiet')
}

async function measure(): Promise<void> {
  await using network = await openNetwork('bench-nfs-kernel')
  const { server } = network
  const ganesha = await startGanesha(network, ganeshaConfiguration({ '/tree': trees.ganesha }))
  const ownProgram = join(import.meta.dirname, 'serve-nfs-program.ts')
  const command = [process.execPath, ownProgram, server, `${guestPort}`, trees.netimage]
  const netimage = network.start('netimage', [...command, mkdtempSync(join(directory, 'layer-'))])
  await netimage.waitFor(/^ready$/)

  const guest = await startNfsGuest(network, trees.netimage, join(directory, 'guest'))
  const used = {
    ganesha: countProcessorTime(ganesha.pid),
    netimage: countProcessorTime(netimage.pid),
    guest: countProcessorTime(guest.pid),
  }

  const at = (address: string) => `vers=3,nolock,proto=tcp,addr=${address}`
  const ownPort = `port=${guestPort},mountport=${guestPort},mountproto=tcp`
  const own = `${at(server)},${ownPort}`
  const device = `${server}:/tree`
  const inGuest = { used: used.guest, ahead: '' }
  const mounts: Mount[] = [
    { name: 'ganesha', used: used.ganesha, device, options: at(server), ahead: '' },
    ...['', ...positionals].map((options) => {
      const ahead = /^read_ahead_kb=(\d+)$/.exec(options)?.[1]
      const added = options === '' || ahead !== undefined ? own : `${own},${options}`
      const name = `netimage ${options}`.trim()
      return { name, used: used.netimage, device, options: added, ahead: ahead ?? '' }
    }),
    {
      ...{ ...inGuest, name: 'kernel, emulated', device: `${guestAddress}:${guestTree}` },
      options: at(guestAddress),
    },
    {
      ...{ ...inGuest, name: 'netimage, emulated', device: `${guestAddress}:/tree` },
      options: `${at(guestAddress)},${ownPort}`,
    },
  ]
  const list = join(network.directory, 'mounts')
  const lines = mounts.map(({ name, device, options, ahead }) =>
    [name, device, options, ahead].join('|'),
  )
  writeFileSync(list, `${lines.join('\n')}\n`)

  const program = join(import.meta.dirname, 'kernel-client.sh')
  const machine = await startHostedClient(network, {
    ...{ name: 'client', host: 101, path: '/tree', options: '' },
    script: `umount /mnt/there && ${program} ${rounds} ${trees.netimage} <${list}`,
  })
  for (let number = 1; number <= rounds * mounts.length * works; number++) {
    await machine.waitFor(new RegExp(`^begin ${number}$`))
    const before = mounts.map((mount) => mount.used())
    const { text } = await machine.waitFor(new RegExp(`^end ${number}\\|`))
    const [, contender = '', work = '', microseconds, calls = ''] = text.split('|')
    const index = mounts.findIndex(({ name }) => name === contender)
    const processorSeconds = (mounts[index]?.used() ?? 0) - (before[index] ?? 0)
    const counts = new Map(
      calls.split(' ').flatMap((call) => {
        const [name, count] = call.split('=')
        return name && count ? [[name, Number(count)] as const] : []
      }),
    )
    const received = counts.get('received') ?? 0
    counts.delete('received')
    samples.push({
      ...{ contender, work, received, calls: counts },
      ...{ seconds: Number(microseconds) / 1e6, processorSeconds },
    })
  }
  await machine.waitFor(/^passed$/)
}

/** Prints medians, and those calls that are at least a hundredth of all. */
function printTables(): void {
  for (const [work, ofWork] of Map.groupBy(samples, (sample) => sample.work)) {
    const printRow = beginTable(work, ['time', 'processor time', 'received', 'calls'])
    for (const [contender, ofRow] of Map.groupBy(ofWork, (sample) => sample.contender)) {
      const of = (figure: (sample: Sample) => number) => median(ofRow.map(figure))
      const sum = of(({ calls }) => [...calls.values()].reduce((all, count) => all + count, 0))
      const names = new Set(ofRow.flatMap(({ calls }) => [...calls.keys()]))
      const listed = [...names]
        .map((name) => ({ name, count: of(({ calls }) => calls.get(name) ?? 0) }))
        .filter(({ count }) => count > 0 && count * 100 >= sum)
        .sort((one, other) => other.count - one.count)
        .map(({ name, count }) => `${name} ${count}`)
      printRow(`${contender}: ${listed.join(', ')}`, [
        `${of(({ seconds }) => seconds).toFixed(2)} s`,
        `${of(({ processorSeconds }) => processorSeconds).toFixed(2)} s`,
        ...[mebibytes(of(({ received }) => received)), `${sum}`],
      ])
    }
  }
}
