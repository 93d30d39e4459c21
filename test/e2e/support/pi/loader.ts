// The requests of a Raspberry Pi from power-on to its kernel, in the order of the boot ROM, the
// EEPROM's loader and the firmware.

import { createHash } from 'node:crypto'
import { readConfigTxt } from './config-txt.ts'
import type { Board, Model } from './models.ts'
import { fetch, probe } from './tftp.ts'

export type LoadedFile = { path: string; bytes: number; sha256: string }

export type LoadReport = {
  /** The folder with the files of the machine; empty: the top of the boot tree. */
  prefix: string
  firmware: LoadedFile[]
  deviceTree?: LoadedFile
  overlays: LoadedFile[]
  kernel?: LoadedFile
  initrd: LoadedFile[]
  /** The part of the kernel line from cmdline.txt. */
  kernelLine?: string
  isArm64: boolean
  /** Problems that stop a real Raspberry Pi, or that break its boot later. */
  problems: string[]
}

/** @param say prints each request and its result */
export async function load(
  model: Model,
  { serial }: Board,
  server: string,
  say: (text: string) => void,
): Promise<LoadReport> {
  const { blockSize, lastBlock } = model
  const problems: string[] = []
  let prefix = ''

  async function isThere(path: string): Promise<boolean> {
    const found = await probe({ server, path, blockSize })
    say(`probe ${path}: ${found ? 'there' : 'not there'}`)
    return found
  }

  async function read(path: string, size: number | undefined): Promise<Buffer | undefined> {
    const fetched = await fetch({ server, path, blockSize: size, lastBlock })
    say(`read ${path}: ${fetched ? `${fetched.bytes.length} bytes` : 'not there'}`)
    if (fetched?.isCut) problems.push(`${path} is cut after ${fetched.blocks} blocks`)
    return fetched?.bytes
  }

  /** The loaders first check that a file exists, and then read it in a new transfer. */
  async function readFound(name: string): Promise<Buffer | undefined> {
    return (await isThere(prefix + name)) ? await read(prefix + name, blockSize) : undefined
  }

  async function loadFirst(names: readonly string[]): Promise<LoadedFile | undefined> {
    for (const name of names) {
      const bytes = await readFound(name)
      if (bytes) return describeFile(prefix + name, bytes)
    }
    return undefined
  }

  async function need(what: string, names: readonly string[]): Promise<LoadedFile | undefined> {
    const file = await loadFirst(names)
    if (!file) problems.push(`no ${what}: ${names.map((name) => prefix + name).join(', ')}`)
    return file
  }

  const firmware: LoadedFile[] = []
  if (model.fetchesBootcode) {
    // The ROM uses no options and no folders.
    const bootcode = await read('bootcode.bin', undefined)
    if (bootcode) firmware.push(describeFile('bootcode.bin', bootcode))
    else problems.push('no bootcode.bin')
    await read('bootsig.bin', undefined)
  }
  prefix = `${serial}/`
  const inFolder = []
  for (const name of model.prefixProbes) {
    if (inFolder.length === 0 && (await isThere(prefix + name))) inFolder.push(name)
  }
  if (inFolder.length === 0) prefix = ''

  const configTxt = (await readFound('config.txt'))?.toString('utf8')
  if (configTxt === undefined) problems.push('no config.txt')
  for (const name of model.early) await loadFirst([name])
  for (const name of model.firmware) {
    const file = await need('firmware', [name])
    if (file) firmware.push(file)
  }

  // From here on the firmware asks, and it asks for some files again.
  if (model.firmware.length > 0) {
    for (const name of ['config.txt', 'dt-blob.bin', 'bootcfg.txt']) await loadFirst([name])
  }
  const { values, initramfs, overlays } = readConfigTxt(configTxt ?? '', model.filters)
  const has = (name: string) => values.get(name) === '1'
  const isArm64 = values.has('arm_64bit') ? has('arm_64bit') : model.isArm64

  const { downstream, upstream } = model.deviceTree
  const ownTrees = has('upstream_kernel') ? [upstream, downstream] : [downstream]
  const named = values.get('device_tree')
  const deviceTree = await need('device tree', named === undefined ? ownTrees : [named])
  await loadFirst(['overlays/overlay_map.dtb'])
  const loadedOverlays: LoadedFile[] = []
  for (const name of overlays) {
    const file = await need('overlay', [`overlays/${name}.dtbo`])
    if (file) loadedOverlays.push(file)
  }

  const cmdline = await readFound(values.get('cmdline') ?? 'cmdline.txt')
  if (!cmdline) problems.push('no cmdline.txt')
  const kernelLine = cmdline?.toString('utf8').split('\n')[0]
  await loadFirst([values.get('armstub') ?? model.armStub])
  const usual = isArm64 ? model.kernels.arm64 : model.kernels.arm32
  const kernel = await need('kernel', values.has('kernel') ? [values.get('kernel') ?? ''] : usual)
  const initrd: LoadedFile[] = []
  for (const name of initramfs?.files ?? []) {
    const file = await need('initramfs', [name])
    if (file) initrd.push(file)
  }

  return {
    prefix,
    firmware,
    overlays: loadedOverlays,
    initrd,
    isArm64,
    problems,
    ...(deviceTree && { deviceTree }),
    ...(kernel && { kernel }),
    ...(kernelLine !== undefined && { kernelLine }),
  }
}

function describeFile(path: string, bytes: Buffer): LoadedFile {
  return { path, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
}
