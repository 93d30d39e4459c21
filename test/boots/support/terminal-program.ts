// Shows boots on its terminal for a moment, tells of an error meanwhile, and writes then how long the
// longest time was in which it could do nothing else.

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
let longest = 0
for (let turn = 0; turn < 100; turn++) {
  const start = performance.now()
  await sleep(10)
  longest = Math.max(longest, performance.now() - start)
}
view.close()
writeFileSync(result, String(longest))
process.exit()
