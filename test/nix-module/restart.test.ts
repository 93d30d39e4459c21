// The module's timer by which a machine restarts itself. Its script runs with this machine's bash and
// coreutils, in directories of the test.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import {
  formatRestartAnswer,
  parseReady,
  restartAnswerBytes,
} from '../../src/site/rollout/readiness-files.ts'
import type { NixWorld } from '../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { createFixtureWorld, systemExpression } from './support.ts'

const run = promisify(execFile)
const days = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']
const dayMinutes = 24 * 60
const windowOf = (windows: readonly string[]) =>
  `{ netImage.site = { rebootWhenAsked = true; rebootWindows = [ ${windows.map((each) => `"${each}"`).join(' ')} ]; }; }`

suite('the timer that restarts a machine', () => {
  const directory = temporaryDirectory()
  const freshName = freshNames(directory)
  let world: NixWorld
  let script: string

  async function scriptFor(windows: readonly string[]): Promise<string> {
    const configuration = windowOf(windows)
    const service = 'config.systemd.services.netimage-restart.serviceConfig.ExecStart'
    const expression = `(${systemExpression({ configuration })}).${service}`
    const [path = ''] = await world.build({ expression })
    return readFileSync(world.realPath(path), 'utf8')
  }

  before(async () => {
    world = await createFixtureWorld(join(directory, 'world'))
    script = await scriptFor([])
  })

  /**
   * `now`: what `date` says; `answer`: what the server says, if it says something; `sayAgain`: as if an hour
   * had passed since the machine said something.
   *
   * @param isClockSet whether a time server has answered
   */
  function machine(windows: readonly string[], isClockSet = true) {
    const root = freshName()
    const sayAgain = () => writeFileSync(join(root, 'netimage-restart-said'), 'false -3600\n')
    mkdirSync(join(root, 'nix/var'), { recursive: true })
    const place = join(root, 'nix/var/netimage/restart')
    const restarted = join(root, 'restarted')
    async function start(now: string, answer?: boolean) {
      const text = [
        ['windows=()', `windows=(${windows.map((each) => `'${each}'`).join(' ')})`],
        ['=/nix/var', `=${root}/nix/var`],
        ['test -w /nix/var', `test -w ${root}/nix/var`],
        ['=/run/', `=${root}/`],
        ['looks=24', answer === undefined ? 'looks=1' : 'looks=7200'],
        ["date '+%u %H %M'", `echo ${now}`],
        ['timedatectl show --property NTP --value', 'echo yes'],
        [
          'timedatectl show --property NTPSynchronized --value',
          `echo ${isClockSet ? 'yes' : 'no'}`,
        ],
        ['systemctl --no-block reboot', `echo > ${restarted}`],
      ].reduce((text, [from = '', to = '']) => {
        assert.ok(text.includes(from), from)
        return text.replace(from, () => to)
      }, script)
      writeFileSync(join(root, 'script'), text, { mode: 0o755 })
      const file = join(place, 'ready')
      const before = existsSync(file) ? readFileSync(file, 'utf8') : ''
      const ended = run(join(root, 'script'))
      if (answer !== undefined) {
        await waitUntil('the machine asks', () => {
          return existsSync(file) && readFileSync(file, 'utf8') !== before
        })
        const { id = '' } = parseReady(readFileSync(file, 'utf8')) ?? {}
        assert.equal(statSync(join(place, 'answer')).size, restartAnswerBytes)
        writeFileSync(join(place, 'answer'), formatRestartAnswer(id, answer))
      }
      await ended
      const after = existsSync(file) ? readFileSync(file, 'utf8') : ''
      return {
        said: after === before ? undefined : parseReady(after)?.ready,
        hasRestarted: existsSync(restarted),
      }
    }
    return { start, sayAgain }
  }

  test('is there only if a person wants it', async () => {
    const timers = async (configuration: string) =>
      JSON.parse(
        await world.nix([
          ...['eval', '--impure', '--json', '--expr'],
          `builtins.attrNames (${systemExpression({ configuration })}).config.systemd.timers`,
        ]),
      ) as unknown
    assert.deepEqual(await timers('{ }'), [])
    assert.deepEqual(await timers(windowOf([])), ['netimage-restart'])
    await assert.rejects(scriptFor(['25:00-26:00']), /25:00-26:00/)
    assert.match(await scriptFor(['Sat,Sun 10:00-12:00']), /windows=\('Sat,Sun 10:00-12:00'\)/)
  })

  test('restarts the machine if the server lets it, and only in its windows', async () => {
    const { start, sayAgain } = machine(['02:00-05:00'])
    assert.deepEqual(await start('1 01 59'), { said: false, hasRestarted: false })
    // The server knows it, and nothing is written.
    assert.deepEqual(await start('1 01 59'), { said: undefined, hasRestarted: false })
    sayAgain()
    assert.deepEqual(await start('1 01 59'), { said: false, hasRestarted: false })
    assert.deepEqual(await start('1 02 00', false), { said: true, hasRestarted: false })
    // Nobody answers.
    assert.deepEqual(await start('1 02 02'), { said: true, hasRestarted: false })
    assert.deepEqual(await start('1 05 00'), { said: false, hasRestarted: false })
    assert.deepEqual(await start('2 04 59', true), { said: true, hasRestarted: true })
  })

  test('does not trust a clock that nobody has set', async () => {
    const early = machine(['02:00-05:00'], false)
    assert.deepEqual(await early.start('1 03 00'), { said: false, hasRestarted: false })
    const always = machine([], false)
    assert.deepEqual(await always.start('1 03 00', true), { said: true, hasRestarted: true })
  })

  test('restarts it at any time if there is no window', async () => {
    assert.deepEqual(await machine([]).start('7 23 59', true), { said: true, hasRestarted: true })
  })

  test('knows all minutes of the week that are in the windows', async () => {
    const minute = fc.integer({ min: 0, max: dayMinutes - 1 })
    const day = fc.integer({ min: 0, max: 6 })
    const part = fc.tuple(day, fc.option(day))
    const window = fc.record({
      parts: fc.array(part, { maxLength: 3 }),
      from: minute,
      until: minute,
    })
    const clock = (time: number) =>
      [Math.floor(time / 60), time % 60].map((each) => String(each).padStart(2, '0')).join(':')
    const named = (at: number) => days[at] ?? ''
    await fc.assert(
      fc.asyncProperty(fc.array(window, { minLength: 1, maxLength: 3 }), async (windows) => {
        const week = new Set<number>()
        const texts = windows.map(({ parts, from, until }) => {
          const all = parts.flatMap(([first, last]) => {
            const length = (((last ?? first) - first + 7) % 7) + 1
            return Array.from({ length }, (_, more) => (first + more) % 7)
          })
          const length = (until - from + dayMinutes) % dayMinutes || dayMinutes
          for (const each of parts.length > 0 ? all : days.keys()) {
            for (let at = 0; at < length; at++) {
              week.add((each * dayMinutes + from + at) % (7 * dayMinutes))
            }
          }
          const said = parts.map(([first, last]) =>
            last === null ? named(first) : `${named(first)}..${named(last)}`,
          )
          return [
            ...(said.length > 0 ? [said.join(',')] : []),
            `${clock(from)}-${clock(until)}`,
          ].join(' ')
        })
        const functions = script.slice(0, script.indexOf('\nif ! test -w'))
        // Each quarter of an hour, and the minutes at the ends of windows.
        const ends = windows.flatMap(({ from, until }) => [from - 1, from, until - 1, until])
        const times = [...Array(96).keys()].map((each) => each * 15).concat(ends)
        const asked = [...days.keys()].flatMap((day) =>
          times.filter((time) => time >= 0).map((time) => [day + 1, time] as const),
        )
        const program = `${functions}
          windows=(${texts.map((each) => `'${each}'`).join(' ')})
          while read -r day minute; do
            if is_in_window "$day" "$minute"; then echo yes; else echo no; fi
          done <<< '${asked.map((each) => each.join(' ')).join('\n')}'`
        const { stdout } = await run('bash', ['-c', program])
        const expected = asked.map(([day, time]) =>
          week.has((day - 1) * dayMinutes + time) ? 'yes' : 'no',
        )
        assert.deepEqual(stdout.trim().split('\n'), expected, texts.join('; '))
      }),
      { numRuns: 25 },
    )
  })
})
