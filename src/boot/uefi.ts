/**
 * UEFI: unified kernel images. One file holds systemd's stub, the kernel, the initrd and the
 * kernel line, and UEFI starts it over PXE or HTTP with nothing else.
 *
 * https://uapi-group.org/specifications/specs/unified_kernel_image/
 */
import { readFile, stat } from 'node:fs/promises'

import { fileSystemError, NetimageError } from '../errors.ts'
import { isUefiProcessor, uefiProcessors } from '../firmware.ts'
import type { StoreFile } from '../nixos/store-files.ts'
import { runProgram } from '../run-program.ts'
import type { BootFile, FilePart } from './boot-files.ts'
import { addSections, type NewSection } from './pe.ts'
import { menuEntries, type BootRequest, type BootSettings, type MenuEntry } from './request.ts'

/** UEFI’s default file name, as in `bootx64.efi`. */
export function unifiedKernelName(platform: string, specialisation?: string): string {
  const processor = uefiProcessor(platform) ?? 'unknown'
  return `boot${processor}${specialisation === undefined ? '' : `-${specialisation}`}.efi`
}

function uefiProcessor(platform: string): string | undefined {
  const [processor = ''] = platform.split('-')
  return isUefiProcessor(processor) ? uefiProcessors[processor].name : undefined
}

export async function uefiFiles(request: BootRequest): Promise<BootFile[]> {
  const { platform } = request.system
  if (uefiProcessor(platform) === undefined) {
    throw new NetimageError('bad-option', `UEFI has no name for the platform ${platform}`)
  }
  const stub = await findStub(request)
  const files: BootFile[] = []
  for (const entry of menuEntries(request)) {
    const parts = addSections(stub.bytes, await sectionsOf(entry, request), stub.path)
    const path = unifiedKernelName(platform, entry.entry.specialisation)
    files.push({ path, content: { kind: 'parts', parts, ...signing(request.settings) } })
  }
  return files
}

async function findStub(request: BootRequest) {
  const { uefiStub } = request.settings
  if (uefiStub !== undefined) return { path: uefiStub, bytes: await read(uefiStub) }
  const stub = await findSystemStub(request)
  if (stub) return { path: stub.path, bytes: await read(stub.real) }
  const name = stubName(request)
  throw new NetimageError(
    'path-not-found',
    `the system has no ${name} for a unified kernel image`,
    {
      hint: `Name systemd’s stub with --uefi-stub FILE (Debian: systemd-boot-efi has /usr/lib/systemd/boot/efi/${name}).`,
    },
  )
}

/** The stub of systemd's package, which the system's link `systemd` leads to. */
export async function findSystemStub(request: BootRequest): Promise<StoreFile | undefined> {
  const folder = `${request.system.toplevel}/systemd/lib/systemd/boot/efi`
  return await request.find(`${folder}/${stubName(request)}`)
}

function stubName({ system }: BootRequest): string {
  return `linux${uefiProcessor(system.platform) ?? ''}.efi.stub`
}

/** The kernel is last: some kernels unpack themselves over the memory that follows them. */
async function sectionsOf(
  { entry, kernelLine }: MenuEntry,
  { system, find }: BootRequest,
): Promise<NewSection[]> {
  const release = await find(`${system.toplevel}/etc/os-release`)
  const content = async (path: string): Promise<FilePart> => {
    const file = await find(path)
    if (file) return { from: file.real, size: (await stat(file.real)).size }
    throw new NetimageError('bad-system', `the system names ${path}, which does not exist`)
  }
  return [
    {
      name: '.osrel',
      content: release ? await read(release.real) : fallbackRelease(entry.label),
    },
    { name: '.cmdline', content: Buffer.from(kernelLine) },
    ...(entry.initrd === undefined
      ? []
      : [{ name: '.initrd', content: await content(entry.initrd) }]),
    { name: '.linux', content: await content(entry.kernel) },
  ]
}

/** os-release(5): values are quoted as in a shell. */
export function fallbackRelease(label: string): Buffer {
  const version = label.replace(/["$`\\]/g, '\\$&')
  return Buffer.from(
    `ID=nixos\nNAME=NixOS\nPRETTY_NAME="NixOS ${version}"\nVERSION_ID="${version}"\n`,
  )
}

/** Many times the size of the stub. The system may be one that a machine made. */
const maxReadBytes = 2 << 20

/** Reads a small file of a system into memory. */
async function read(path: string): Promise<Buffer> {
  try {
    const { size } = await stat(path)
    if (size > maxReadBytes) {
      throw new NetimageError(
        'bad-system',
        `${path} has ${size} bytes, but can have at most ${maxReadBytes}`,
        { details: { file: path, expected: maxReadBytes, actual: size } },
      )
    }
    return await readFile(path)
  } catch (error) {
    throw fileSystemError(`could not read ${path}`, error)
  }
}

/** Signs for Secure Boot with `sbsign`, if a key and a certificate were given. */
function signing({ signKey, signCertificate }: BootSettings) {
  if (signKey === undefined && signCertificate === undefined) return {}
  if (signKey === undefined || signCertificate === undefined) {
    throw new NetimageError('bad-option', 'signing needs both --sign-key and --sign-cert')
  }
  return { finish: (file: string) => sign(file, signKey, signCertificate) }
}

async function sign(file: string, key: string, certificate: string): Promise<void> {
  const args = ['--key', key, '--cert', certificate, '--output', file, file]
  const hint = 'netimage signs for Secure Boot with sbsign. On Debian: apt-get install sbsigntool.'
  const { status, stderr } = await runProgram('sbsign', args, { hint })
  if (status === 0) return
  const why = stderr.trim() || `sbsign ended with ${status}`
  throw new NetimageError('command-failed', `could not sign for UEFI: ${why}`)
}
