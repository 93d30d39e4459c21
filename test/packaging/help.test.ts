// The manual pages and the completions, in the programs that read them.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { allCommands, describeProgram } from '../../packaging/commands.ts'
import { bashCompletion, fishCompletion, zshCompletion } from '../../packaging/completions.ts'
import { writeManual } from '../../packaging/manual.ts'
import { netimage } from '../support/netimage.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const program = await describeProgram()

suite('the manual', () => {
  const directory = temporaryDirectory()
  writeManual(program, directory, 1_700_000_000)
  execFileSync('gunzip', readdirSync(directory), { cwd: directory })
  const run = (command: string, args: readonly string[]) =>
    execFileSync(command, args, { cwd: directory, encoding: 'utf8' })

  test('has a page for each command that mandoc accepts', () => {
    const names = allCommands(program).map(({ words }) => `${words.join('-')}.1`)
    assert.deepEqual(readdirSync(directory).toSorted(), names.toSorted())
    assert.ok(names.includes('netimage-site-plan.1'))
    // scdoc begins more paragraphs than it needs, which are warnings.
    assert.equal(run('mandoc', ['-T', 'lint', '-W', 'error', ...names]), '')
  })

  for (const words of [['serve'], ['site', 'push']]) {
    test(`says what --help says: ${words.join(' ')}`, async () => {
      const { stdout } = await netimage([...words, '--help'])
      const file = `netimage-${words.join('-')}.1`
      const page = run('mandoc', ['-T', 'ascii', '-O', 'width=1000', file]).replaceAll(/.\x08/g, '')
      const flags = stdout.match(/^ {2}(-\w, )?--[\w-]+/gm)?.map((flag) => flag.trim()) ?? []
      assert.ok(flags.length > 4)
      assert.deepEqual(
        flags.filter((flag) => !new RegExp(`\\n +${flag}\\b`).test(page)),
        [],
      )
      const [, summary = ''] = stdout.split('\n\n')
      assert.ok(page.includes(summary), page)
      assert.match(page, /2023-11-14/)
    })
  }
})

suite('completion', () => {
  const directory = temporaryDirectory()
  writeFileSync(join(directory, 'netimage.bash'), bashCompletion(program))
  writeFileSync(join(directory, '_netimage'), zshCompletion(program))
  writeFileSync(join(directory, 'netimage.fish'), fishCompletion(program))
  writeFileSync(join(directory, 'my-image'), '')

  /** What a person types before TAB, and what is there after it, without the space at the end. */
  const lines = {
    'netimage si': 'netimage site',
    'netimage site pu': 'netimage site push',
    'netimage site log --fol': 'netimage site log --follow',
    'netimage serve my-image --tftp-s': 'netimage serve my-image --tftp-single-port',
    'netimage serve --dhcp fu': 'netimage serve --dhcp full',
    'netimage serve --dhcp=fu': 'netimage serve --dhcp=full',
    'netimage servers gan': 'netimage servers ganesha',
    // A value that could be anything, and an argument, are names of files.
    'netimage build --output my-': 'netimage build --output my-image',
    'netimage verify my-': 'netimage verify my-image',
  }

  // zsh itself carries out what is in such a line.
  const notCarriedOut = { 'netimage verify $(touch ran)my-': 'netimage verify $(touch ran)my-' }

  function pressTab(typed: readonly string[], setup: string, shell: readonly string[]): string[] {
    const script = join(import.meta.dirname, 'support/press-tab.zsh')
    const args = [script, setup, ...typed, '--', ...shell]
    const environment = { PATH: process.env['PATH'], TERM: 'dumb', HOME: directory }
    const output = execFileSync('zsh', args, {
      ...{ cwd: directory, encoding: 'utf8', env: environment, timeout: 60_000 },
    })
    // Shells differ in whether they write a space after the last word.
    return output
      .trimEnd()
      .split('\n')
      .map((line) => line.trimEnd())
  }

  test('in bash', () => {
    const show = `'"\\C-t": printf "[%s]\\n" "$READLINE_LINE"; READLINE_LINE='`
    const setup = `bind -x ${show}; . ./netimage.bash`
    const all = { ...lines, ...notCarriedOut }
    const shown = pressTab(Object.keys(all), setup, ['bash', '--norc', '--noprofile', '-i'])
    assert.deepEqual(shown, Object.values(all))
    assert.ok(!readdirSync(directory).includes('ran'))
  })

  test('in zsh', () => {
    const setup = [
      'fpath=($PWD $fpath)',
      'autoload -Uz compinit',
      'compinit -u -D',
      // Otherwise TAB is a TAB if more was typed already.
      "zstyle '*' insert-tab false",
      'show() { print -r "[$BUFFER]"; BUFFER= }',
      'zle -N show',
      "bindkey '^T' show",
    ].join('; ')
    assert.deepEqual(pressTab(Object.keys(lines), setup, ['zsh', '-f', '-i']), Object.values(lines))
  })

  test('in fish', () => {
    const environment = { PATH: process.env['PATH'], HOME: directory }
    const complete = (typed: string) => {
      const args = ['--no-config', '--command', 'source netimage.fish; complete -C $argv[1]', typed]
      return execFileSync('fish', args, { cwd: directory, encoding: 'utf8', env: environment })
    }
    for (const [typed, expected] of Object.entries(lines)) {
      const [word = ''] = complete(typed).split(/[\t\n]/)
      assert.equal(typed.replace(/\S*$/, '') + word, expected)
    }
    for (const typed of Object.keys(notCarriedOut)) complete(typed)
    assert.ok(!readdirSync(directory).includes('ran'))
  })
})
