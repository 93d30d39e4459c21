// Publishes a system, and kills itself before one of the operations on files.
//
//     node publish-program.ts ROOT DIRECTORY KILLED-AT KERNEL-BYTES
//
// KILLED-AT: counted from 1; 0 is never. Prints how many operations there were, and the id of what
// was published or the code of the error.

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { mock } from 'node:test'

const [root = '', directory = '', killedAt, bytes] = process.argv.slice(2)
let operations = 0
for (const name of ['mkdir', 'open', 'rename', 'rm', 'writeFile', 'copyFile'] as const) {
  const original = fs.promises[name]
  mock.method(fs.promises, name, (...args: unknown[]): unknown => {
    if (++operations === Number(killedAt)) process.kill(process.pid, 'SIGKILL')
    return Reflect.apply(original, fs.promises, args)
  })
}
syncBuiltinESMExports()
const { publish } = await import('../../../src/site/publish/published.ts')
const { asNetimageError } = await import('../../../src/errors.ts')
const { toStorePath } = await import('../../../src/nix/store-path.ts')
const { imageIn } = await import('../publish/support/images.ts')
const { kernelPath, makeRoot, plant, plantAll, systemOf } =
  await import('../publish/support/roots.ts')

const { toplevel, files } = systemOf('killed')
const path = toStorePath(toplevel)
if (!path) throw new Error(toplevel)
const made = makeRoot(root)
plantAll(made.fileSystem, files)
plant(made.fileSystem, `${kernelPath}/bzImage`, { hole: Number(bytes) })
const result = await publish({
  ...{ view: made.fileSystem, image: imageIn(root, {}), toplevel: path, directory },
  warn: (message) => process.stderr.write(message),
  signal: new AbortController().signal,
}).then(
  ({ id }) => id,
  (error: unknown) => asNetimageError(error).code,
)
await made.close()
process.stdout.write(`${operations} ${result}\n`)
