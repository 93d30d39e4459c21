/** SHA256SUMS, as `sha256sum --check` reads it. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export function writeSums(directory: string): void {
  const lines = readdirSync(directory)
    .toSorted()
    .map((name) => {
      const hash = createHash('sha256')
        .update(readFileSync(join(directory, name)))
        .digest('hex')
      return `${hash}  ${name}\n`
    })
  writeFileSync(join(directory, 'SHA256SUMS'), lines.join(''))
}
