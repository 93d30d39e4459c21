/**
 * Writes the OpenAPI document that the page's server has. A test compares the file with this.
 *
 *     node scripts/openapi.ts
 */
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { openApiText } from './openapi/document.ts'

const file = join(dirname(import.meta.dirname), 'src/page/assets/openapi.json')
writeFileSync(file, openApiText())
