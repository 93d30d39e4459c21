/**
 * Measures a site of many machines: how long an apply takes until each of them boots the new image next, the
 * memory of the server and the bytes of the database then, how soon one machine is good with a new image, the memory
 * of the server when this machine has published in a loop, and how soon it boots its last good image after a
 * failure. That machine is simulated: it needs no time of its own.
 *
 *     node bench/site.ts [machines]
 */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'

import { openSiteDatabase, siteFile, type SiteDatabase } from '../src/site/database.ts'
import { assign, decide } from '../src/site/life/choose.ts'
import { generationOf } from '../src/site/life/life.ts'
import { answerBytes } from '../src/site/publish/request.ts'
import { notesDirectory } from '../src/serve/boot-notes.ts'
import { readData, wanted, wide } from '../test/protocols/support/nfs-client.ts'
import { addFleetImages, type MarkedImage } from '../test/serve/support/fleet-images.ts'
import { freePort } from '../test/serve/support/free-port.ts'
import { createServedMachine } from '../test/serve/support/served-machine.ts'
import { netimage, startNetimage } from '../test/support/netimage.ts'
import { inventPath } from '../test/support/synthetic.ts'
import { waitUntil } from '../test/support/waiting.ts'
import { makeWorkspace } from '../test/support/workspace.ts'
import { measured, mebibytes, print } from './report.ts'

const count = Number(process.argv[2] ?? '1000')
const hex = (number: number) => number.toString(16).padStart(2, '0')
const names = Array.from(
  { length: count },
  (_, index) => `02:00:00:00:${hex(index >> 8)}:${hex(index & 255)}`,
)
/** It boots, and has an address of the loopback interface. */
const booted = '127.0.1.1'

const seconds = (from: number) => `${((performance.now() - from) / 1000).toFixed(2)} s`

function residentMemory(pid: number | undefined): number {
  const [, kibibytes] =
    /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kibibytes) * 1024
}

function databaseBytes(state: string): number {
  using database = new DatabaseSync(siteFile(state))
  const row = database
    .prepare('SELECT page_count * page_size AS bytes FROM pragma_page_count, pragma_page_size')
    .get()
  return Number(row?.['bytes'])
}

/** As if all had been up with the image for long. */
function giveToAll(database: SiteDatabase, image: MarkedImage): void {
  database.change((writer) => {
    const now = { at: Date.now(), uptime: writer.uptime() }
    for (const machine of [...names, booted]) {
      const assigned = assign(writer.of(machine), image, now, 'person')
      assert.ok(!('refused' in assigned))
      const decided = decide(assigned.life, undefined, 'good')
      writer.keep(decided?.life ?? assert.fail())
    }
  })
}

await measured(async () => {
  const workspace = makeWorkspace('site-of-many')
  const state = workspace.path('state')
  const [old, first, good, bad] = await addFleetImages(workspace, state, 2)
  assert.ok(old && first && good && bad)
  const database = openSiteDatabase(state)
  giveToAll(database, old)
  const ports = { tftp: await freePort(), http: await freePort(), nfs: await freePort() }
  const { child, ended } = startNetimage([
    ...['serve', '--dhcp', 'off', '--listen', '127.0.0.1', '--state', state, '--allow', 'any'],
    ...['--tftp-port', `${ports.tftp}`, '--http-port', `${ports.http}`],
    ...['--nfs-port', `${ports.nfs}`, '--no-port-mapper'],
  ])
  let said = ''
  child.stderr?.on('data', (text: string) => (said += text))
  await waitUntil('the server listens', () => {
    assert.equal(child.exitCode, null, said)
    return /^on 127\.0\.0\.1 /m.test(said)
  })

  const nextOf = (machine: string) => {
    const life = database.read.lifeOf(machine)
    return generationOf(life, life.current)
  }

  /** @param image of the machine that boots */
  const apply = async (image: MarkedImage): Promise<void> => {
    const file = workspace.path('site.toml')
    const group = (name: string, { image: id }: MarkedImage, machines: readonly string[]) => [
      `[group.${name}]\nsystem = "${id}"\nmachines = ${JSON.stringify(machines)}`,
      'waves = ["rest"]\nhealth = { settle = "1s", tries = 1 }',
    ]
    writeFileSync(
      file,
      [...group('all', first, names), ...group('one', image, [booted])].join('\n'),
    )
    const applied = await netimage(['site', 'apply', '--yes', '--file', file, '--state', state])
    assert.equal(applied.status, 0, applied.stderr)
  }

  const [before, bytes] = [residentMemory(child.pid), databaseBytes(state)]
  let from = performance.now()
  await apply(old)
  print(`${seconds(from)}: ${count} machines, the command has ended`)
  await waitUntil('all have the image', () =>
    names.every((name) => nextOf(name)?.image === first.image),
  )
  print(`${seconds(from)}: all of them boot the new image next`)
  const after = residentMemory(child.pid)
  print(`${mebibytes(after)} resident memory of the server, ${mebibytes(before)} before`)
  const each = (databaseBytes(state) - bytes) / count
  print(`${each.toFixed(0)} bytes of the database for each machine that got a generation`)

  const machine = createServedMachine(booted, ports, () => false)
  async function isNext(image: MarkedImage): Promise<void> {
    await waitUntil('the roll-out before has ended', () =>
      database.read
        .rollouts()
        .newest.every(({ group, state: how }) => group !== 'one' || how !== 'running'),
    )
    await apply(image)
    await waitUntil('the machine boots it next', () => nextOf(booted)?.image === image.image)
  }
  async function load(): Promise<string | undefined> {
    const mark = await machine.does('boot.ipxe', '')
    for (const action of ['kernel', 'initrd'] as const) await machine.does(action, '')
    return mark
  }
  /** The machine does not wait for answers, and has no such system. @returns the memory of the server then */
  async function publishInLoop(times: number): Promise<number> {
    const { client, root } = machine.mounted()
    const notes = await client.find(root, ...notesDirectory)
    await client.ask('MKDIR', [notes, 'publish', wanted({ mode: 0o700 })])
    const folder = await client.find(notes, 'publish')
    const write = async (name: string, text: string) => {
      await client.done('CREATE', [folder, name, 0, wanted({ mode: 0o600 })])
      await client.done('WRITE', [await client.find(folder, name), wide(0), text.length, 2, text])
    }
    await write('answer', ' '.repeat(answerBytes))
    const answer = await client.find(folder, 'answer')
    const toplevel = inventPath('nixos-system-gone')
    for (let number = 1; number <= times; number++) {
      await write('new', JSON.stringify({ version: 1, id: `${times}-${number}`, toplevel }))
      await client.done('RENAME', [folder, 'new', folder, 'request'])
    }
    await waitUntil('the last request is refused', async () => {
      const said = readData(await client.done('READ', [answer, wide(0), answerBytes]))
      return said.toString().startsWith(`id ${times}-${times}\nstatus refused`)
    })
    return residentMemory(child.pid)
  }
  // The first roll-out ends only when the machine has been up.
  await load()
  for (const action of ['mount', 'init'] as const) await machine.does(action, old.toplevel)
  await machine.does({ bootId: '', toplevel: old.toplevel }, '')
  await isNext(good)
  from = performance.now()
  assert.equal(await load(), good.mark)
  for (const action of ['mount', 'init'] as const) await machine.does(action, good.toplevel)
  await machine.does({ bootId: '', toplevel: good.toplevel }, '')
  const up = seconds(from)
  await waitUntil('the image is good', () => nextOf(booted)?.verdict === 'good')
  print(`${seconds(from)} from the first boot file until the image is good; up after ${up}`)
  const few = await publishInLoop(100)
  const many = await publishInLoop(10_000)
  print(
    `${mebibytes(many)} after 10,000 more requests to publish a system, ${mebibytes(few)} before`,
  )
  await isNext(bad)
  assert.equal(await load(), bad.mark)
  // Without DHCP, the server knows by this pause that the machine has started again.
  await sleep(61_000)
  from = performance.now()
  assert.equal(await machine.does('boot.ipxe', ''), good.mark)
  print(`${seconds(from)} from its next start until it has the script of its last good image`)
  child.kill('SIGTERM')
  await ended
  database.close()
  workspace.remove()
})
