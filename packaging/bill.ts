/** The bill of materials (CycloneDX): npm's for the packages, and Debian's packages of the OCI image. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { version } from '../src/version.ts'
import { writeProduction } from './production.ts'
import type { ReleaseSettings } from './settings.ts'

const componentSchema = v.looseObject({ 'bom-ref': v.string(), name: v.string() })
const billSchema = v.looseObject({
  metadata: v.looseObject({ component: componentSchema }),
  components: v.array(componentSchema),
  dependencies: v.array(v.looseObject({ ref: v.string(), dependsOn: v.array(v.string()) })),
})

/**
 * @param bases of the images for each kind of computer: see image.ts
 * @returns the path of the bill
 */
export function writeBill(
  bases: readonly string[],
  { work, output, epoch }: ReleaseSettings,
): string {
  const project = join(work, 'bill')
  writeProduction(project)
  const args = ['sbom', '--sbom-format=cyclonedx', '--package-lock-only']
  const made = execFileSync('npm', args, { cwd: project, encoding: 'utf8', maxBuffer: 2 ** 26 })
  const { metadata, components, dependencies, ...bill } = v.parse(billSchema, JSON.parse(made))
  // It only names the packages of Node in our repository.
  const workspace = components.find((each) => each.name === 'dev-runtime')?.['bom-ref'] ?? ''
  const packages = [
    ...components.filter((each) => each['bom-ref'] !== workspace),
    ...bases.flatMap(debianComponents),
  ]
  const content = JSON.stringify({
    ...bill,
    // npm takes the name of the directory, a new number and the time of day.
    serialNumber: `urn:uuid:${uuidOf(JSON.stringify([version, packages]))}`,
    metadata: {
      ...metadata,
      timestamp: new Date(epoch * 1000).toISOString(),
      component: { ...metadata.component, name: 'netimage' },
    },
    components: packages,
    dependencies: dependencies
      .filter(({ ref }) => ref !== workspace)
      .map((each) => ({ ...each, dependsOn: each.dependsOn.filter((ref) => ref !== workspace) })),
  })
  const file = join(output, `netimage-${version}.cdx.json`)
  writeFileSync(file, `${content}\n`)
  return file
}

function debianComponents(base: string) {
  const lines = readFileSync(join(base, 'packages'), 'utf8').trimEnd().split('\n')
  return lines.map((line) => {
    const [name = '', version = '', architecture = ''] = line.split('\t')
    const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${architecture}`
    return { 'bom-ref': purl, type: 'library', name, version, purl }
  })
}

/** A number that the same content always gets (a UUID of version 8). */
function uuidOf(content: string): string {
  const hex = createHash('sha256').update(content).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
