/**
 * Copies the files of the status page to where a build has its code.
 *
 *     node scripts/copy-assets.ts [DIRECTORY]
 */
import { cpSync } from 'node:fs'
import { dirname, join } from 'node:path'

const assets = 'page/assets'
const root = dirname(import.meta.dirname)
const [directory = join(root, 'dist')] = process.argv.slice(2)
cpSync(join(root, 'src', assets), join(directory, assets), { recursive: true })
