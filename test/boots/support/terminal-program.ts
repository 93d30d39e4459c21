// Shows boots on its terminal for a moment, reports an error meanwhile, and makes a file at its
// end. If it waits for a terminal that does not read, the file is never made.

import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { showBoots } from '../../../src/commands/show-boots.ts'
import type { Boot } from '../../../src/boots/follow.ts'

const [, , result = '', noise = '0'] = process.argv
const now = Date.now()
const boot = (machine: string): Boot => ({
  ...{ machine, started: now, step: 'kernel', steps: { kernel: now }, lastSign: now, bytes: 0 },
})
const boots = [boot('52:54:00:00:00:01'), boot('52:54:00:00:00:02')]
const view = showBoots({ output: process.stdout, messages: process.stderr }, () => boots, false)
view.say('error: the disk is full')
for (let count = 0; count < Number(noise); count++) view.say('x'.repeat(1000))
// The table is drawn a second time.
await sleep(1000)
view.close()
writeFileSync(result, 'done')
process.exit()
