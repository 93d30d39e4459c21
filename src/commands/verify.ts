import { Command } from '@commander-js/extra-typings'

import { exitStatus } from '../errors.ts'
import { plural } from '../progress.ts'
import { jsonOption } from './common-options.ts'
import { runCommand } from './run.ts'

export function verifyCommand() {
  return new Command('verify')
    .description('Compare every store path and every other file of an image with its manifest')
    .argument('<image>', 'an image that `netimage build` made')
    .option(...jsonOption)
    .option('-q, --quiet', 'show no progress')
    .action((image, flags) =>
      runCommand(flags, async ({ signal, progress }) => {
        const { verifyImage } = await import('../image/verify.ts')
        const result = await verifyImage({ image, signal, progress })
        const { findings, storePaths, files } = result
        const checked = `${plural(storePaths, 'store path')} and ${plural(files, 'other file')}`
        const lines = findings.map(({ path, problem }) => `${path}: ${problem}`)
        const whole = findings.length === 0
        return {
          json: { ...result, whole },
          text: whole ? `${result.image} is whole: ${checked}` : lines.join('\n'),
          exitStatus: whole ? 0 : exitStatus.untrusted,
        }
      }),
    )
}
