/**
 * The OCI image: Debian's libraries below, the program above. A layout in an archive, for `podman load`,
 * `skopeo copy` and the like.
 *
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { version } from '../src/version.ts'
import { levelModes, tar } from './archive.ts'
import { debianArchitecture } from './debian.ts'
import type { Architecture } from './program.ts'
import type { ReleaseSettings } from './settings.ts'

const config = [
  '--os=linux',
  '--config.entrypoint=/usr/bin/netimage',
  '--config.env=PATH=/usr/bin:/bin',
  '--config.env=HOME=/root',
  '--config.volume=/var/lib/netimage',
  '--config.label=org.opencontainers.image.title=netimage',
  `--config.label=org.opencontainers.image.version=${version}`,
  '--config.label=org.opencontainers.image.licenses=MIT',
]

/** @returns the directory with `root` and `packages` of packaging/fetch-base.sh */
export function fetchBase(work: string, architecture: Architecture): string {
  const script = join(import.meta.dirname, 'fetch-base.sh')
  const args = [script, work, debianArchitecture[architecture]]
  return execFileSync('sh', args, { encoding: 'utf8' }).trim()
}

/**
 * @param program as `makeProgram` makes it
 * @param base as `fetchBase` makes it
 */
export function makeImage(
  program: string,
  base: string,
  architecture: Architecture,
  { work, output, epoch }: ReleaseSettings,
): void {
  const name = `netimage-${version}-oci-${debianArchitecture[architecture]}`
  const layout = join(work, name)
  const image = `--image=${layout}:${version}`
  const created = new Date(epoch * 1000).toISOString()
  umoci('init', `--layout=${layout}`)
  umoci('new', image)
  const addLayer = (directory: string, how: readonly string[]) => {
    const layer = join(work, 'layer.tar')
    tar(directory, readdirSync(directory).toSorted(), layer, epoch, how)
    umoci('raw', 'add-layer', image, `--history.created=${created}`, layer)
    rmSync(layer)
  }
  addLayer(join(base, 'root'), [])
  addLayer(program, ['--transform=flags=rSH;s,^,usr/,'])
  const kind = `--architecture=${debianArchitecture[architecture]}`
  umoci('config', image, '--no-history', `--created=${created}`, kind, ...config)
  // What each of these steps has replaced.
  umoci('gc', `--layout=${layout}`)
  levelModes(layout)
  tar(layout, ['oci-layout', 'index.json', 'blobs'], join(output, `${name}.tar`), epoch)
  rmSync(layout, { recursive: true })
}

function umoci(...args: readonly string[]): void {
  execFileSync('umoci', args, { stdio: ['ignore', 'ignore', 'inherit'] })
}
