/** Copies the files of the status page to where the build has its code. */
import { cpSync } from 'node:fs'
import { dirname, join } from 'node:path'

const assets = 'page/assets'
const root = dirname(import.meta.dirname)
cpSync(join(root, 'src', assets), join(root, 'dist', assets), { recursive: true })
