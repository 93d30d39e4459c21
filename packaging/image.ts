/**
 * The OCI image: Debian's libraries below, the program above. A layout in an archive, for `podman load`,
 * `skopeo copy` and the like.
 *
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { version } from '../src/version.ts'
import { gzipFile, levelTree, tar } from './archive.ts'
import { debianArchitecture } from './debian.ts'
import type { Architecture } from './program.ts'
import type { Request } from './request.ts'

const type = (name: string) => `application/vnd.oci.image.${name}`

type Descriptor = { mediaType: string; digest: string; size: number }
type Layer = { descriptor: Descriptor; diffId: string }

/** @returns the directory with `root` and `packages` of packaging/fetch-base.sh */
export function fetchBase(work: string, architecture: Architecture): string {
  const script = join(import.meta.dirname, 'fetch-base.sh')
  const args = [script, work, debianArchitecture[architecture]]
  return execFileSync('sh', args, { encoding: 'utf8' }).trim()
}

/**
 * @param program as `makeProgram` makes it
 * @param base as `fetchBase` makes it
 * @returns the path of the image
 */
export function makeImage(
  program: string,
  base: string,
  architecture: Architecture,
  request: Request,
): string {
  const { work, output, epoch } = request
  const name = `netimage-${version}-oci-${debianArchitecture[architecture]}`
  const layout = join(work, name)
  const blobs = join(layout, 'blobs/sha256')
  mkdirSync(blobs, { recursive: true })
  const layers = [
    addLayer(blobs, join(base, 'root'), [], request),
    addLayer(blobs, program, ['--transform=flags=rSH;s,^,usr/,'], request),
  ]
  const config = addJson(blobs, type('config.v1+json'), configOf(architecture, layers, epoch))
  const manifest = addJson(blobs, type('manifest.v1+json'), {
    schemaVersion: 2,
    mediaType: type('manifest.v1+json'),
    config,
    layers: layers.map(({ descriptor }) => descriptor),
  })
  const named = { ...manifest, annotations: { 'org.opencontainers.image.ref.name': version } }
  writeJson(join(layout, 'index.json'), { schemaVersion: 2, manifests: [named] })
  writeJson(join(layout, 'oci-layout'), { imageLayoutVersion: '1.0.0' })
  const file = join(output, `${name}.tar`)
  levelTree(layout, epoch)
  tar(layout, ['oci-layout', 'index.json', 'blobs'], file, epoch)
  rmSync(layout, { recursive: true })
  return file
}

function configOf(architecture: Architecture, layers: readonly Layer[], epoch: number): unknown {
  const created = new Date(epoch * 1000).toISOString()
  return {
    created,
    architecture: debianArchitecture[architecture],
    os: 'linux',
    config: {
      Entrypoint: ['/usr/bin/netimage'],
      Env: ['PATH=/usr/bin:/bin', 'HOME=/root'],
      Volumes: { '/var/lib/netimage': {} },
      Labels: {
        'org.opencontainers.image.title': 'netimage',
        'org.opencontainers.image.version': version,
        'org.opencontainers.image.licenses': 'MIT',
      },
    },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map(() => ({ created })),
  }
}

function addLayer(
  blobs: string,
  directory: string,
  how: readonly string[],
  { work, epoch, effort }: Request,
): Layer {
  const [plain, packed] = [join(work, 'layer.tar'), join(work, 'layer.tar.gz')]
  tar(directory, readdirSync(directory).toSorted(), plain, epoch, how)
  gzipFile(plain, packed, effort)
  const diffId = `sha256:${sha256(readFileSync(plain))}`
  rmSync(plain)
  const hash = sha256(readFileSync(packed))
  const { size } = statSync(packed)
  renameSync(packed, join(blobs, hash))
  const mediaType = type('layer.v1.tar+gzip')
  return { descriptor: { mediaType, digest: `sha256:${hash}`, size }, diffId }
}

function addJson(blobs: string, mediaType: string, content: unknown): Descriptor {
  const bytes = Buffer.from(JSON.stringify(content))
  const hash = sha256(bytes)
  writeFileSync(join(blobs, hash), bytes)
  return { mediaType, digest: `sha256:${hash}`, size: bytes.length }
}

function writeJson(file: string, content: unknown): void {
  writeFileSync(file, JSON.stringify(content))
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
