// Shows boots on its terminal for a moment, tells of an error meanwhile, and makes a file when it is
// through with that: it never is where it waits for somebody who does not read.

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
// It is drawn a second time.
await sleep(1000)
view.close()
writeFileSync(result, 'done')
process.exit()
