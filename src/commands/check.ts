import { Command, Option } from '@commander-js/extra-typings'

import type { CheckFinding, Level } from '../check/check.ts'
import { exitStatus, NetimageError } from '../errors.ts'
import { plural } from '../progress.ts'
import { runCommand } from './run.ts'
import * as stores from './store-options.ts'

export function checkCommand() {
  return new Command('check')
    .description('Say what will keep a system or an image from booting, and what mends it')
    .argument('<subject>', 'a system, as build takes it, or an image')
    .addOption(
      new Option('--silence <rule>', 'leave out a rule; repeatable').argParser(stores.collect),
    )
    .option('--nfs-root <root>', 'the nfsRoot that build will be given (default: the image’s)')
    .addOption(stores.fromOption)
    .addOption(stores.keysOption)
    .addOption(stores.noCheckSigsOption)
    .addOption(stores.netrcOption)
    .addOption(stores.poolOption)
    .option('--json', 'print the result as JSON')
    .option('-q, --quiet', 'show no progress')
    .action((subject, flags) =>
      runCommand(flags, async ({ signal, progress }) => {
        const { check } = await import('../image/check.ts')
        const { ruleNames } = await import('../check/rules.ts')
        for (const name of flags.silence ?? []) {
          if (!ruleNames.includes(name)) throw unknownRule(name, ruleNames)
        }
        const result = await check({
          subject,
          signal,
          progress,
          ...stores.storeChoice(flags),
          ...(flags.silence && { silenced: flags.silence }),
          ...(flags.nfsRoot !== undefined && { nfsRoot: flags.nfsRoot }),
          ...(flags.pool !== undefined && { pool: flags.pool }),
        })
        const hasErrors = result.findings.some(({ level }) => level === 'error')
        return {
          json: result,
          text: describeFindings(result.findings),
          exitStatus: hasErrors ? exitStatus.failed : 0,
        }
      }),
    )
}

function unknownRule(name: string, known: readonly string[]): NetimageError {
  return new NetimageError('bad-option', `--silence: there is no rule ${name}`, {
    hint: `The rules are ${known.join(', ')}.`,
  })
}

const levels: readonly Level[] = ['error', 'warning', 'note']

/** Grouped by their levels, each with what mends it. */
export function describeFindings(findings: readonly CheckFinding[]): string {
  if (findings.length === 0) return 'nothing was found that would keep it from booting'
  const groups = levels.flatMap((level) => {
    const found = findings.filter((finding) => finding.level === level)
    return found.length === 0 ? [] : [[plural(found.length, level), ...found.map(describe)]]
  })
  return groups.map((group) => group.join('\n\n')).join('\n\n')
}

function describe({ rule, message, path, fix }: CheckFinding): string {
  const lines = [`  ${message} [${rule}]`]
  if (path !== undefined && !message.includes(path)) lines.push(`  in ${path}`)
  lines.push(...fix.split('\n').map((line) => `      ${line}`))
  return lines.join('\n')
}
