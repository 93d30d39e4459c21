import { Command } from '@commander-js/extra-typings'

import { exitStatus } from '../errors.ts'
import type { CheckRequest } from '../image/check-subject.ts'
import { withoutUndefined } from '../without-undefined.ts'
import { jsonOption } from './common-options.ts'
import { describeChecked, silenceOption } from './findings.ts'
import { runCommand } from './run.ts'
import * as stores from './store-options.ts'

export function checkCommand() {
  return new Command('check')
    .description(
      'Find the errors that keep a system or an image from booting, and say how to mend them',
    )
    .argument('<subject>', 'a system, as for build, or an image')
    .addOption(silenceOption)
    .option('--nfs-root <root>', 'the nfsRoot that you will give to build (default: the image’s)')
    .addOption(stores.fromOption)
    .addOption(stores.keysOption)
    .addOption(stores.noCheckSigsOption)
    .addOption(stores.netrcOption)
    .addOption(stores.poolOption)
    .option(...jsonOption)
    .option('-q, --quiet', 'show no progress')
    .action((subject, flags) =>
      runCommand(flags, async ({ signal, progress }) => {
        const { check } = await import('../image/check-subject.ts')
        const { knownRules } = await import('../check/silence.ts')
        const result = await check({
          subject,
          signal,
          progress,
          ...stores.storeChoice(flags),
          ...withoutUndefined<Omit<CheckRequest, 'subject'>>({
            silenced: flags.silence && knownRules(flags.silence, '--silence'),
            nfsRoot: flags.nfsRoot,
            pool: flags.pool,
          }),
        })
        const hasErrors = result.findings.some(({ level }) => level === 'error')
        return {
          json: result,
          text: describeChecked(
            result.findings,
            'nothing was found that would keep the system from booting',
          ),
          exitStatus: hasErrors ? exitStatus.failed : 0,
        }
      }),
    )
}
