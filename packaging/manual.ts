/** The manual pages: a text for scdoc for each command, and what scdoc makes of it. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { version } from '../src/version.ts'
import { gzip } from './archive.ts'
import { allCommands, type DescribedCommand } from './commands.ts'

const documentation =
  'The documents in _/usr/share/doc/netimage_ (of an unpacked archive: _share/doc/netimage_) say more, among them what each exit status means.'

/** Writes `netimage.1.gz`, `netimage-build.1.gz`, `netimage-site-plan.1.gz`… */
export function writeManual(program: DescribedCommand, directory: string, epoch: number): void {
  mkdirSync(directory, { recursive: true })
  for (const command of allCommands(program)) {
    const page = execFileSync('scdoc', {
      input: textOf(command),
      env: { ...process.env, SOURCE_DATE_EPOCH: `${epoch}` },
    })
    writeFileSync(join(directory, `${pageOf(command)}.1.gz`), gzip(page))
  }
}

function textOf(command: DescribedCommand): string {
  const { summary, usage } = command
  const page = pageOf(command)
  return [
    `${page}(1) "netimage ${version}" "netimage"`,
    `# NAME\n\n${page} - ${plain(summary)}`,
    `# SYNOPSIS\n\n${marked(usage, command.words.join(' '))}`,
    section(
      'COMMANDS',
      command.commands.map((each) => [`*${pageOf(each)}*(1)`, each.summary]),
    ),
    section(
      'ARGUMENTS',
      command.arguments.map(({ name, description }) => [`_${plain(name)}_`, description]),
    ),
    section(
      'OPTIONS',
      command.options.map((option) => [flagsOf(option), option.description]),
    ),
    `# DOCUMENTATION\n\n${documentation}`,
    command.words.length > 1 ? `# SEE ALSO\n\n${seeAlso(command)}` : '',
  ]
    .filter((part) => part !== '')
    .join('\n\n')
    .concat('\n')
}

function section(title: string, entries: readonly (readonly [string, string])[]): string {
  if (entries.length === 0) return ''
  const blocks = entries.map(([term, text]) => `${term}\n\t${plain(text)}`)
  return `# ${title}\n\n${blocks.join('\n\n')}`
}

function pageOf({ words }: DescribedCommand): string {
  return words.join('-')
}

/** The usage with the command in bold. */
function marked(usage: string, command: string): string {
  return `*${plain(command)}*${plain(usage.slice(command.length))}`
}

function flagsOf({ short, long, value }: DescribedCommand['options'][number]): string {
  const flags = [...(short === '' ? [] : [`-${short}`]), `--${long}`].map((flag) => `*${flag}*`)
  return `${flags.join(', ')}${value ? ` _${plain(value.name)}_` : ''}`
}

/** The pages above this one, the nearest first. */
function seeAlso({ words }: DescribedCommand): string {
  const above = words.map((_, index) => words.slice(0, index).join('-')).slice(1)
  return above
    .map((page) => `*${page}*(1)`)
    .toReversed()
    .join(', ')
}

/** Without a meaning for scdoc. */
function plain(text: string): string {
  return text.replaceAll(/[\\*_+]/g, String.raw`\$&`)
}
