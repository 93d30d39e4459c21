// A machine of a group builds a system of its own after a roll-out, and the system does not come up. The
// machines are clients of HTTP and NFS. update.slow.ts shows a PC that does the same.

import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import {
  connectNfs,
  readData,
  wanted,
  wide,
  type NfsClient,
} from '../protocols/support/nfs-client.ts'
import { systemOf, type Made } from '../site/publish/support/roots.ts'
import { openSiteDatabase } from '../../src/site/database.ts'
import { generationOf, lastAttempt, type Life } from '../../src/site/life/life.ts'
import { answerName, publishDirectory, requestName } from '../../src/site/publish/request.ts'
import { beginRollout } from '../../src/site/rollout/rollouts.ts'
import { group, settings } from '../site/rollout/support/simulate.ts'
import { netimage } from '../support/netimage.ts'
import { findProgram } from '../support/packages.ts'
import { runProgram } from '../support/real-nix.ts'
import { waitUntil } from '../support/waiting.ts'
import { addTo, sayGood } from './support/person.ts'
import { buildOtherTo } from './support/served-image.ts'
import { servedWorkspace } from './support/served-workspace.ts'
import { addressIn, startSharded } from './support/sharded-server.ts'

const { workspace, image } = await servedWorkspace('own-in-group')
const state = workspace.path('state')
/** Each is served by a process of its own. */
const [builder, other] = [addressIn(0), addressIn(1)]
const own = systemOf('own')
/** NFS3ERR_EXIST, NFS3ERR_JUKEBOX */
const [exists, jukebox] = [17, 10008]

suite('a machine of a group that builds its own system', { concurrency: 1 }, () => {
  let server: Awaited<ReturnType<typeof startSharded>>
  let toplevel: string
  const roots = new Map<string, { client: NfsClient; handle: Buffer }>()

  function lifeOf(machine: string): Life {
    const database = openSiteDatabase(state)
    try {
      return database.read.lifeOf(machine)
    } finally {
      database.close()
    }
  }

  const fetch = (machine: string, path: string) =>
    runProgram(findProgram('curl'), [
      ...['-sf', '--interface', machine],
      `http://127.0.0.1:${server.http}/${path}`,
    ])

  function powerOff(machine: string): void {
    roots.get(machine)?.client[Symbol.dispose]()
    roots.delete(machine)
  }

  /** It starts and gets its kernel. @returns the toplevel on its kernel line, and the kernel */
  async function load(machine: string): Promise<{ toplevel: string | undefined; kernel: string }> {
    powerOff(machine)
    const before = lastAttempt(lifeOf(machine))?.number
    let script = ''
    // A machine that asks again within a second has not started again.
    await waitUntil(`${machine} begins another attempt`, async () => {
      script = await fetch(machine, 'boot.ipxe')
      return lastAttempt(lifeOf(machine))?.number !== before
    })
    const [, path] = /^kernel (\S+) /m.exec(script) ?? assert.fail(script)
    const [, booted] = /init=(\/nix\/store\/[^/]+)\/init/.exec(script) ?? []
    return { toplevel: booted, kernel: await fetch(machine, `${path}`) }
  }

  async function mount(machine: string): Promise<{ client: NfsClient; handle: Buffer }> {
    const client = await connectNfs(server.nfs, machine)
    let mounted = await client.mount('/srv/test')
    await waitUntil(`${machine} has its root`, async () => {
      if (mounted.status === jukebox) mounted = await client.mount('/srv/test')
      return mounted.status === 0
    })
    const root = { client, handle: mounted.handle }
    roots.set(machine, root)
    return root
  }

  /** It comes up: it reads its init, and stays up. */
  async function boot(machine: string) {
    const loaded = await load(machine)
    const { client, handle } = await mount(machine)
    await client.done('READ', [
      await client.find(handle, ...`${loaded.toplevel}/init`.split('/').filter(Boolean)),
      ...[wide(0), 100],
    ])
    return loaded
  }

  /** Makes the node and the directories above it in the root of the machine. */
  async function plant(path: string, made: Made): Promise<void> {
    const { client, handle } = roots.get(builder) ?? assert.fail()
    const names = path.split('/').filter(Boolean)
    const last = names.pop() ?? ''
    let directory = handle
    const makeDirectory = async (name: string) => {
      const { status } = await client.ask('MKDIR', [directory, name, wanted({ mode: 0o755 })])
      assert.ok(status === 0 || status === exists, `${path}: ${status}`)
      directory = await client.find(directory, name)
    }
    for (const name of names) await makeDirectory(name)
    if ('directory' in made) {
      await makeDirectory(last)
      for (const [name, child] of Object.entries(made.directory))
        await plant(`${path}/${name}`, child)
    } else if ('link' in made) {
      await client.done('SYMLINK', [directory, last, wanted(), String(made.link)])
    } else if ('file' in made) {
      const { status } = await client.ask('CREATE', [directory, last, 0, wanted({ mode: 0o755 })])
      assert.equal(status, 0, path)
      const file = await client.find(directory, last)
      const text = String(made.file)
      await client.done('WRITE', [file, wide(0), text.length, 2, text])
    } else assert.fail(path)
  }

  /** What the module does when nixos-rebuild installs a system. @returns the answer of the server */
  async function publish(id: string): Promise<string> {
    const { client, handle } = roots.get(builder) ?? assert.fail()
    const place = `/${publishDirectory.join('/')}`
    await plant(`${place}/${answerName}`, { file: ' '.repeat(4096) })
    await plant(`${place}/new`, {
      file: JSON.stringify({ version: 1, id, toplevel: own.toplevel }),
    })
    const directory = await client.find(handle, ...publishDirectory)
    await client.done('RENAME', [directory, 'new', directory, requestName])
    const answer = await client.find(directory, answerName)
    let said = ''
    await waitUntil(`${id} is answered`, async () => {
      const reader = await client.done('READ', [answer, wide(0), 4096])
      said = readData(reader).toString().trimEnd()
      return said.startsWith(`id ${id}\n`) && !said.includes('status working')
    })
    return said
  }

  const site = async (...args: string[]) => {
    const run = await netimage(['site', ...args, '--state', state])
    assert.equal(run.status, 0, run.stderr)
    return run.stdout
  }

  before(async () => {
    const built = await buildOtherTo(
      workspace,
      workspace.path('other'),
      '--nfs-root',
      '127.0.0.1:/srv/test,v3',
    )
    assert.equal(built.status, 0, built.stderr)
    const candidate = await addTo(state, workspace.path('other'))
    toplevel = candidate.toplevel
    server = await startSharded({ image, state })
    for (const machine of [builder, other]) {
      await boot(machine)
      sayGood(state, machine)
    }
    const database = openSiteDatabase(state)
    database.change((writer) => {
      writer.rollouts.setGroups(new Map([builder, other].map((name) => [name, group])))
      const health = { deadline: 600_000, tries: 3, settle: 1000, tcp: [] }
      const wanted = settings([[builder], [other]], { candidate, health })
      beginRollout(writer, wanted, new Map(), { at: Date.now(), uptime: writer.uptime() })
    })
    database.close()
    for (const machine of [builder, other]) {
      await waitUntil(`the wave of ${machine} has begun`, () => lifeOf(machine).current === 2)
      assert.equal((await boot(machine)).toplevel, toplevel)
      await waitUntil(`the image is good on ${machine}`, () => {
        return generationOf(lifeOf(machine), 2)?.verdict === 'good'
      })
    }
    await waitUntil('the roll-out is done', async () => {
      return (await site('status', group)).includes('is done')
    })
  })
  after(() => {
    for (const machine of roots.keys()) powerOff(machine)
  })

  test('boots it, with its kernel, and no other machine of the group does', async () => {
    for (const [path, made] of Object.entries(own.files)) await plant(path, made)
    await plant('/var/kept', { file: 'mine' })
    const said = await publish('first')
    assert.match(said, /^status published\n[^]*generation 3 of this machine\.\n.*in trial\.$/m)
    assert.deepEqual(await load(builder), { toplevel: own.toplevel, kernel: 'kernel of own' })
    const { client, handle } = await mount(builder)
    await client.find(handle, 'var', 'kept')
    await client.find(handle, ...`${own.toplevel}/boot.json`.slice(1).split('/'))
    assert.equal((await boot(other)).toplevel, toplevel)
  })

  test('goes back to the image of the group after three attempts, although it has removed that', async () => {
    const { client, handle } = roots.get(builder) ?? assert.fail()
    const directory = await client.find(handle, ...toplevel.slice(1).split('/'))
    await client.done('REMOVE', [directory, 'init'])
    for (const attempt of [2, 3]) {
      assert.equal((await load(builder)).toplevel, own.toplevel, `attempt ${attempt}`)
      await mount(builder)
    }
    assert.equal((await boot(builder)).toplevel, toplevel)
    const { verdict, failures } = generationOf(lifeOf(builder), 3) ?? assert.fail()
    assert.deepEqual([verdict, failures], ['bad', 3])
    const root = roots.get(builder) ?? assert.fail()
    await root.client.find(root.handle, 'var', 'kept')
    // The roll-out stays done, and the other machine is as it was.
    assert.match(await site('status', group), /is done/)
    const life = lifeOf(other)
    assert.deepEqual(
      [life.current, life.generations.map(({ verdict }) => verdict)],
      [2, ['good', 'good']],
    )
  })

  test('gets the system again only when a person has called it good', async () => {
    assert.match(await publish('bad'), /^status refused\n[^]*bad on this machine as generation 3/m)
    await site('good', builder, '3')
    assert.match(await publish('good'), /^status published\n/m)
    assert.equal((await load(builder)).toplevel, own.toplevel)
  })
})
