// The module's boot loader hook: how NixOS gets it, and what it says to a server that publishes
// systems. The hook runs with this machine's bash and coreutils, in directories of the test.

import assert from 'node:assert/strict'
import { execFile, type ExecFileException } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import {
  answerBytes,
  formatAnswer,
  parseRequest,
  type Answer,
} from '../../src/site/publish/request.ts'
import type { NixWorld } from '../support/real-nix.ts'
import { inventPath } from '../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { createFixtureWorld, systemExpression } from './support.ts'

const toplevel = inventPath('nixos-system-host')
const older = inventPath('nixos-system-older')

function linksIn(directory: string): string[] {
  const links = readdirSync(directory, { withFileTypes: true }).filter((file) =>
    file.isSymbolicLink(),
  )
  return links.map(({ name }) => readlinkSync(join(directory, name))).toSorted()
}

suite('the boot loader hook', () => {
  const directory = temporaryDirectory()
  const freshName = freshNames(directory)
  let world: NixWorld
  let hook: string
  before(async () => {
    world = await createFixtureWorld(join(directory, 'world'))
    const expression = `(${systemExpression()}).config.system.build.installBootLoader`
    const [path = ''] = await world.build({ expression })
    hook = readFileSync(world.realPath(path), 'utf8')
  })

  /**
   * Runs the hook, with a server that gives these answers one after the other.
   *
   * @param pauses the server answers after so many lines in the file `pauses`
   */
  async function run(answers: Omit<Answer, 'id'>[], times = 'first=4500 last=4500', pauses = 0) {
    const root = freshName()
    const place = join(root, 'nix/var/netimage/publish')
    const roots = join(root, 'nix/var/nix/gcroots/netimage')
    mkdirSync(join(root, 'nix/store'), { recursive: true })
    for (const each of [roots, place]) mkdirSync(each, { recursive: true })
    writeFileSync(join(roots, 'gone'), '')
    const earlier = formatAnswer({ id: 'earlier', status: 'published', says: ['Earlier.'] })
    writeFileSync(join(place, 'answer'), earlier)
    const script = [
      ['first=75 last=1500', times],
      ['=/nix/var/netimage', `=${root}/nix/var/netimage`],
      ['=/nix/var/nix', `=${root}/nix/var/nix`],
      ['sync --file-system /nix/store', `sync --file-system ${root}/nix/store`],
      // The system exists only in the store of the test.
      ['$(readlink -e "$1")', '$1'],
    ].reduce((text, [from = '', to = '']) => {
      assert.ok(text.includes(from), from)
      return text.replace(from, () => to)
    }, hook)
    writeFileSync(join(root, 'hook'), script, { mode: 0o755 })
    const { promise, resolve } = Promise.withResolvers<{
      error: ExecFileException | null
      said: string
    }>()
    let isOver = false
    execFile(join(root, 'hook'), [toplevel], (error, stdout, stderr) => {
      isOver = true
      resolve({ error, said: stdout + stderr })
    })
    const request = join(place, 'request')
    await waitUntil('the request', () => isOver || existsSync(request))
    const atRequest = { roots: linksIn(roots), answer: statSync(join(place, 'answer')).size }
    const asked = existsSync(request) ? parseRequest(readFileSync(request, 'utf8')) : undefined
    const paused = () =>
      readFileSync(join(place, 'pauses'), { encoding: 'utf8', flag: 'a+' }).length
    if (pauses > 0) await waitUntil('the hook pauses', () => isOver || paused() >= pauses)
    for (const answer of answers) {
      assert.ok(asked?.id !== undefined)
      // In place, as the server writes.
      writeFileSync(join(place, 'answer'), formatAnswer({ id: asked.id, ...answer }))
    }
    const { error, said } = await promise
    const kept = readdirSync(roots)
    return { status: error?.code ?? 0, said, asked, atRequest, roots, kept, place }
  }

  test('says which generation the server made, and keeps systems from the garbage collector', async () => {
    const { status, said, asked, atRequest, roots, kept, place } = await run([
      { status: 'working' },
      { status: 'published', keep: [toplevel, older], says: ['Generation 7.', 'It has 3 tries.'] },
    ])
    assert.deepEqual([status, said], [0, 'netimage: Generation 7.\nnetimage: It has 3 tries.\n'])
    assert.ok(asked && 'toplevel' in asked)
    assert.equal(asked.toplevel, toplevel)
    assert.equal(kept.length, 2)
    assert.deepEqual(linksIn(roots), [toplevel, older].toSorted())
    // The server may make the generation although the hook sees no answer.
    assert.deepEqual(atRequest, { roots: [toplevel], answer: answerBytes })
    assert.deepEqual(readdirSync(place).toSorted(), ['answer', 'request'])
  })

  test('fails with the reason of the server', async () => {
    const { status, said, kept } = await run([{ status: 'refused', says: ['It was bad.'] }])
    assert.deepEqual([status, said], [1, 'netimage: It was bad.\n'])
    assert.deepEqual(kept, ['gone'], 'what may boot next is the same as before')
  })

  test('waits for the answer of a server that starts again meanwhile', async () => {
    // Each look takes ten minutes, because NFS waits for the server.
    const slow = `first=4500 last=4500; sleep() {
      SECONDS=$((SECONDS + 600)); echo >> $directory/pauses; command sleep "$1"
    }`
    const published = { status: 'published', says: ['Generation 7.'] } as const
    const { status, said } = await run([published], slow, 3)
    assert.deepEqual([status, said], [0, 'netimage: Generation 7.\n'])
  })

  test('sees the answer of a server that has seen the request before the hook takes it back', async () => {
    const late = `first=1 last=4500; rm() {
      echo >> $directory/pauses
      local text=
      until [ "$text" = "$id" ]; do command sleep 0.05; read -r _ text < $answer; done
      command rm "$@"
    }`
    const published = { status: 'published', says: ['Generation 7.'] } as const
    const { status, said } = await run([published], late, 1)
    assert.deepEqual([status, said], [0, 'netimage: Generation 7.\n'])
  })

  test('fails if the machine has no room to ask', async () => {
    const { status, said, asked } = await run([], 'first=1 last=1; sync() { false; }')
    assert.deepEqual([status, asked], [1, undefined])
    assert.match(said, /^netimage: the machine could not ask the server, .* nix-collect-garbage/)
  })

  test('warns and succeeds if another server serves the root', async () => {
    const { status, said, place } = await run([], 'first=5 last=4500')
    assert.equal(status, 0)
    assert.deepEqual(readdirSync(place), ['answer'], 'no server takes the request later')
    assert.match(said, /^netimage: no server of netimage answered within 1 seconds/)
  })

  test('fails if the server begins and never ends', async () => {
    const { status, said, roots } = await run([{ status: 'working' }], 'first=4500 last=5')
    assert.equal(status, 1)
    assert.deepEqual(linksIn(roots), [toplevel], 'the server may finish later')
    assert.match(said, /^netimage: the server has not finished the boot files/)
  })

  test('gives way to a loader that a person enables', async () => {
    const configuration = '{ system.build.installBootLoader = "another loader"; }'
    const expression = `(${systemExpression({ configuration })}).config.system.build.installBootLoader`
    assert.equal(
      await world.nix(['eval', '--impure', '--raw', '--expr', expression]),
      'another loader',
    )
  })
})
