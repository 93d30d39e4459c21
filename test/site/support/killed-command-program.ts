// Runs a command of netimage, and kills itself before a step of its work.
//
//     node killed-command-program.ts STEPS COMMAND…

import { killAfter } from '../../support/killed-by-steps.ts'

const [steps = ''] = process.argv.splice(2, 1)
killAfter(Number(steps))
const { main } = await import('../../../src/commands/main.ts')
await main()
