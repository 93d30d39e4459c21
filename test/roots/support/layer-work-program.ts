// Works on a layer until it is killed, and prints which operations are on the disk.
//
//     node layer-work-program.ts LAYER IMAGE SEED
//
// It prints the tree that it finds, `tree …`. Then it reads how to go on: the number of the next
// operation, some earlier operations that must have been answered, and files whose data is unknown.
// It prints `acknowledged N` each time that all operations before N are on the disk.

import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import * as v from 'valibot'
import { openLayer } from './open-layer.ts'
import { verifyLayer } from '../../../src/roots/verify.ts'
import { batchAt } from './layer-cut.ts'
import { applyToLayer, changesData, fileAt, pathText, treeOfLayer } from './layer-operations.ts'
import { createIndex } from './tree-index.ts'

const [directory = '', image = '', seedText = ''] = process.argv.slice(2)
const seed = Number(seedText)
const say = (text: string) => void process.stdout.write(`${text}\n`)

const index = createIndex('image', image)
mkdirSync(directory, { recursive: true })
await openLayer(directory, index).close()
const { problems } = verifyLayer(directory, index)
const { fileSystem } = openLayer(directory, index)
const input = createInterface({ input: process.stdin })
const typed = once(input, 'line')
say(`tree ${JSON.stringify({ problems, lines: treeOfLayer(fileSystem) })}`)

const orderSchema = v.object({
  ...{ from: v.number(), answered: v.array(v.number()), empty: v.array(v.string()) },
})
const [order]: unknown[] = await typed
const { from, answered, empty } = v.parse(orderSchema, JSON.parse(String(order)))
for (const number of answered) {
  if (!fileSystem.recallReply(keyOf(number))) throw new Error(`no reply to ${number} is kept`)
}
for (const path of empty) {
  const file = fileAt(fileSystem, path)
  fileSystem.setAttributes(file, { size: 0 })
  await fileSystem.commit(file)
}

for (let number = from; ;) {
  const written = new Set<number>()
  for (const operation of batchAt(seed, number)) {
    const key = keyOf(number++)
    const done = fileSystem.together(() => {
      const isDone = applyToLayer(fileSystem, operation) === 'done'
      if (isDone) fileSystem.rememberReply(key, Buffer.from('done'))
      return isDone
    })
    if (done && changesData(operation)) written.add(fileAt(fileSystem, pathText(operation.path)))
  }
  // A file may be removed before it is committed. Clients do the same.
  const commits = [...written].map((file) => fileSystem.commit(file).catch(ignoreGone))
  await Promise.all([...commits, fileSystem.stable()])
  say(`acknowledged ${number}`)
}

function keyOf(number: number): Buffer {
  return Buffer.from(`operation ${number}`)
}

function ignoreGone(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ESTALE')) throw error
}
