import { Command, InvalidArgumentError, Option } from '@commander-js/extra-typings'

import { jsonOption } from './common-options.ts'
import { formatBytes } from './format.ts'
import { plural } from '../progress.ts'
import { runCommand } from './run.ts'
import { poolOption } from './store-options.ts'

export function gcCommand() {
  return new Command('gc')
    .description('Remove the store paths from the pool that no build used for some time')
    .addOption(poolOption)
    .addOption(
      new Option('--keep-days <days>', 'keep the store paths that were used in this number of days')
        .argParser(parseDays)
        .default(30),
    )
    .option(...jsonOption)
    .option('-q, --quiet', 'show no progress')
    .action((flags) =>
      runCommand(flags, async ({ progress, signal }) => {
        const { collectGarbage } = await import('../pool/gc.ts')
        const { defaultPoolDirectory } = await import('../pool/pool.ts')
        const pool = flags.pool ?? defaultPoolDirectory()
        const warn = (message: string) => progress.warn(message)
        const result = await collectGarbage(pool, flags.keepDays, warn, signal)
        const { removedPaths, removedBytes, keptPaths } = result
        return {
          json: { pool, ...result },
          text: `removed ${plural(removedPaths, 'path')} (${formatBytes(removedBytes)}), kept ${keptPaths}`,
        }
      }),
    )
}

function parseDays(text: string): number {
  const days = Number(text)
  if (text.trim() !== '' && days >= 0) return days
  throw new InvalidArgumentError('Give a number of days, 0 or more.')
}
