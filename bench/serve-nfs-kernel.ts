/**
 * Measures common work of the kernel's NFS client on our server and on nfs-ganesha: its time, the
 * processor time of the server, the bytes that it sent, and the calls. The client is a machine in User Mode Linux.
 *
 *     node bench/serve-nfs-kernel.ts [--rounds 3] [--files 1000] [mount options …]
 *
 * Our server is also mounted with each of the given mount options, for example `noatime` or
 * `nocto,actimeo=600`. `read_ahead_kb=1024` sets how much the client reads ahead.
 *
 * Needs root and the Debian packages user-mode-linux, nfs-ganesha-vfs, rpcbind, git and sqlite3.
 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'

import { ganeshaConfiguration } from '../test/e2e/support/configuration.ts'
import { startGanesha } from '../test/e2e/support/daemons.ts'
import { openNetwork } from '../test/e2e/support/network.ts'
import { findProgram } from '../test/e2e/support/packages.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { startHostedClient } from '../test/protocols/support/hosted-client.ts'
import { median } from './measure.ts'
import { usage } from './usage.ts'

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
  seconds: number
  processorSeconds: number
  /** Bytes of all answers. */
  received: number
  calls: Map<string, number>
}

/** The key is a contender and a work, as the machine prints them. */
const samples = new Map<string, Sample[]>()
const directory = mkdtempSync(join(tmpdir(), 'netimage-bench-kernel-'))
const trees = { ganesha: join(directory, 'ganesha'), netimage: join(directory, 'netimage') }
try {
  makeTree(trees.netimage)
  cpSync(trees.netimage, trees.ganesha, { recursive: true })
  process.stdout.write(`load before: ${loadavg()[0]?.toFixed(2)}\n`)
  await measure()
  printTable()
  process.stdout.write(`load after: ${loadavg()[0]?.toFixed(2)}\n`)
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
  const command = [process.execPath, ownProgram, server, '22049', trees.netimage]
  const netimage = network.start('netimage', [...command, mkdtempSync(join(directory, 'layer-'))])
  await netimage.waitFor(/^ready$/)

  const always = `vers=3,nolock,proto=tcp,addr=${server}`
  const own = `${always},port=22049,mountport=22049,mountproto=tcp`
  const mounts = [['ganesha', always, '']]
  for (const options of ['', ...positionals]) {
    const ahead = /^read_ahead_kb=(\d+)$/.exec(options)?.[1]
    const added = options === '' || ahead !== undefined ? own : `${own},${options}`
    mounts.push([`netimage ${options}`.trim(), added, ahead ?? ''])
  }
  const list = join(network.directory, 'mounts')
  const lines = mounts.map(([name, options, ahead]) =>
    [name, `${server}:/tree`, options, ahead].join('|'),
  )
  writeFileSync(list, `${lines.join('\n')}\n`)

  const program = join(import.meta.dirname, 'kernel-client.sh')
  const machine = await startHostedClient(network, {
    ...{ name: 'client', host: 101, path: '/tree', options: '' },
    script: `umount /mnt/there && ${program} ${rounds} ${trees.netimage} <${list}`,
  })
  for (let number = 1; number <= rounds * mounts.length * works; number++) {
    await machine.waitFor(new RegExp(`^begin ${number}$`))
    const before = { ganesha: seconds(ganesha), netimage: seconds(netimage) }
    const { text } = await machine.waitFor(new RegExp(`^end ${number}\\|`))
    const after = { ganesha: seconds(ganesha), netimage: seconds(netimage) }
    const [, contender = '', work = '', microseconds, calls = ''] = text.split('|')
    const name = contender === 'ganesha' ? 'ganesha' : 'netimage'
    const key = `${contender}|${work}`
    const counts = new Map(
      calls.split(' ').flatMap((call) => {
        const [name, count] = call.split('=')
        return name && count ? [[name, Number(count)] as const] : []
      }),
    )
    const received = counts.get('received') ?? 0
    counts.delete('received')
    const sample = {
      seconds: Number(microseconds) / 1e6,
      processorSeconds: after[name] - before[name],
      ...{ received, calls: counts },
    }
    samples.set(key, [...(samples.get(key) ?? []), sample])
  }
  await machine.waitFor(/^passed$/)
}

function seconds({ pid }: Program): number {
  return usage(pid).seconds
}

/** Prints medians, and those calls that are at least a hundredth of all. */
function printTable(): void {
  const rows = [...samples].map(([key, ofRow]) => {
    const [contender = '', work = ''] = key.split('|')
    return { contender, work, ofRow }
  })
  for (const [work, ofWork] of Map.groupBy(rows, (row) => row.work)) {
    process.stdout.write(`${work}\n`)
    for (const { contender, ofRow } of ofWork) {
      const of = (figure: (sample: Sample) => number) => median(ofRow.map(figure))
      const sum = of(({ calls }) => [...calls.values()].reduce((all, count) => all + count, 0))
      const names = new Set(ofRow.flatMap(({ calls }) => [...calls.keys()]))
      const listed = [...names]
        .map((name) => ({ name, count: of(({ calls }) => calls.get(name) ?? 0) }))
        .filter(({ count }) => count > 0 && count * 100 >= sum)
        .sort((one, other) => other.count - one.count)
        .map(({ name, count }) => `${name} ${count}`)
      const figures = [
        `${of((sample) => sample.seconds).toFixed(2)} s`,
        `${of((sample) => sample.processorSeconds).toFixed(2)} s`,
        `${(of((sample) => sample.received) / 2 ** 20).toFixed(1)} MiB`,
        `${sum}`,
      ].map((figure) => figure.padStart(10))
      const name = contender.padEnd(30)
      process.stdout.write(`  ${name}${figures.join('')} calls: ${listed.join(', ')}\n`)
    }
  }
}
