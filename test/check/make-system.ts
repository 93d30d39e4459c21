// Makes trees of NixOS systems without Nix, which would only take time. With the defaults, no rule
// finds a problem.

import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import assert from 'node:assert/strict'
import { checkSystem, type CheckFinding, type CheckInput } from '../../src/check/check-system.ts'
import type { TreeFile } from '../../src/tree-files.ts'
import { parseHash } from '../../src/nix/hash.ts'
import { baseNameOf, toStorePath, type StorePath } from '../../src/nix/store-path.ts'
import { storeFilesIn } from '../../src/nixos/store-files.ts'
import { readSystem } from '../../src/nixos/system.ts'
import { cpioArchive, modes, type CpioFile } from '../support/cpio.ts'
import { inventPath } from '../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

/** The text of a file, or the files of a directory by their names. */
export type Content = string | { [name: string]: Content }

export type SystemParts = {
  platform: string
  kernelParams: string[]
  fstab: string
  /** Undefined means that the system has none. */
  initrd: Buffer | undefined
  /** Lines of modules.builtin; undefined means that there is no such file. */
  builtin: string[] | undefined
  /** More files of the toplevel. */
  toplevel: Record<string, Content>
  /** The script of stage 2. */
  init: string
  /** More files of /etc. */
  etc: Record<string, Content>
  programs: string[]
  /** Names of device trees below dtbs. */
  dtbs: string[]
  /** More store paths, by their names. */
  paths: Record<string, Content>
  specialisations: Record<string, { kernelParams?: string[]; initrd?: Buffer }>
}

export type ImageParts = {
  nfsRoot?: string
  /** The text, or only the size if no rule reads the file. */
  boot?: Record<string, string | number>
  rootFiles?: TreeFile[]
}

const modulesFolder = 'nix/store/m-modules-shrunk/lib/modules/6.12.1/kernel'

export function moduleFiles(...files: string[]): CpioFile[] {
  return files.map((file) => ({ name: `${modulesFolder}/${file}`, data: 'a module\0' }))
}

export const nfsModules = moduleFiles('fs/nfs/nfs.ko.xz', 'fs/nfs/nfsv3.ko.xz')
export const networkModules = moduleFiles('drivers/net/ethernet/intel/e1000e/e1000e.ko.xz')

export const clientName =
  'cat /sys/class/net/*/device/net/*/address > /sys/module/nfs/parameters/nfs4_unique_id'

/** The lines of NixOS's scripted stage 1 that the rules read. */
export const stage1Script = [
  '#! /nix/store/e-extra-utils/bin/ash',
  'targetRoot=/mnt-root',
  'for iface in $(ls /sys/class/net/ | grep -v ^lo$); do',
  '  udhcpc --quit --now -i $iface -O staticroutes --script /nix/store/u-udhcp-script',
  'done',
  clientName,
  '',
].join('\n')

export function scriptedInitrd(changes: { script?: string; files?: CpioFile[] } = {}): Buffer {
  const { script = stage1Script, files = [...nfsModules, ...networkModules] } = changes
  return cpioArchive([
    { name: 'init', mode: modes.symlink, data: '/nix/store/s-stage-1-init.sh' },
    { name: 'nix/store/s-stage-1-init.sh', mode: modes.program, data: script },
    { name: 'nix/store/e-extra-utils/bin/busybox', mode: modes.program, data: '\x7fELF' },
    ...files,
  ])
}

export const networkUnit = '[Match]\nType=ether\n\n[Network]\nDHCP=ipv4\nKeepConfiguration=yes\n'
export const networkd: CpioFile[] = [
  { name: 'nix/store/s-systemd/lib/systemd/systemd-networkd', mode: modes.program },
  { name: 'nix/store/s-systemd/lib/systemd/systemd-network-generator', mode: modes.program },
]
export const protocolFiles: CpioFile[] = [
  { name: 'nix/store/l-libtirpc/etc/netconfig' },
  { name: 'nix/store/i-iana-etc/etc/protocols' },
]
/** NixOS's links for `boot.initrd.systemd.initrdBin`: systemd's `mount` searches `/sbin`. */
export const mountProgram: CpioFile[] = [
  { name: 'sbin', mode: modes.symlink, data: '/nix/store/b-initrd-bin-env/sbin' },
  {
    name: 'nix/store/b-initrd-bin-env/sbin/mount.nfs',
    mode: modes.symlink,
    data: '/nix/store/n-nfs-utils/bin/mount.nfs',
  },
  { name: 'nix/store/n-nfs-utils/bin/mount.nfs', mode: modes.program },
]
export const mountNfs: CpioFile[] = [...mountProgram, ...protocolFiles]

export function systemdInitrd(
  changes: { files?: CpioFile[]; network?: string; service?: string } = {},
): Buffer {
  const { files = [...nfsModules, ...networkModules, ...networkd, ...mountNfs] } = changes
  return cpioArchive([
    { name: 'init', mode: modes.symlink, data: '/nix/store/s-systemd/lib/systemd/systemd' },
    { name: 'nix/store/s-systemd/lib/systemd/systemd', mode: modes.program, data: '\x7fELF' },
    { name: 'etc/systemd/network/10-root.network', data: changes.network ?? networkUnit },
    {
      name: 'nix/store/n-unit-nfs4-client-name.service/nfs4-client-name.service',
      data: `[Service]\nExecStart=/bin/sh -c "${changes.service ?? clientName}"\n`,
    },
    ...files,
  ])
}

const goodParts: SystemParts = {
  platform: 'x86_64-linux',
  kernelParams: ['console=ttyS0', 'loglevel=4'],
  fstab: '192.168.0.108:/srv/nixos / nfs vers=3,proto=tcp,nolock 0 0\n',
  initrd: scriptedInitrd(),
  builtin: ['kernel/net/unix/unix.ko'],
  toplevel: {},
  init: `#! /bin/sh\nsource ${inventPath('local-cmds')}\n`,
  etc: {},
  programs: ['nix-store'],
  dtbs: [],
  paths: {
    'local-cmds': 'if [ -f /nix-path-registration ]; then nix-store --load-db; fi\n',
  },
  specialisations: {},
}

/** The other parts of a system with systemd's stage 1. */
export const systemdParts = {
  kernelParams: ['root=fstab', 'console=ttyS0'],
  initrd: systemdInitrd(),
} satisfies Partial<SystemParts>

const freshName = freshNames(temporaryDirectory())

export async function makeCheckInput(
  changes: Partial<SystemParts> = {},
  image?: ImageParts,
): Promise<CheckInput> {
  const parts = { ...goodParts, ...changes, paths: { ...goodParts.paths, ...changes.paths } }
  const store = freshName()
  const real = (path: string) => join(store, baseNameOf(storePathOf(path)))
  const closure: StorePath[] = []
  const add = (name: string, content: Content) => {
    const path = inventPath(name)
    writeContent(real(path), content)
    closure.push(storePathOf(path))
    return path
  }

  for (const [name, content] of Object.entries(parts.paths)) add(name, content)
  const kernel = add('linux', { image: 'kernel' })
  const builtin = parts.builtin && { 'modules.builtin': `${parts.builtin.join('\n')}\n` }
  const modules = add('linux-modules', { lib: { modules: { '6.12.1': builtin ?? {} } } })
  const etc = add('etc', { fstab: parts.fstab, ...parts.etc })
  const programs = Object.fromEntries(parts.programs.map((name) => [name, 'program']))
  const sw = add('system-path', { bin: programs })
  const deviceTrees = Object.fromEntries(parts.dtbs.map((name) => [name, 'dtb']))
  const dtbs = add('device-trees', { broadcom: deviceTrees })

  const addInitrd = (name: string, initrd: Buffer | undefined) => {
    if (!initrd) return undefined
    const path = add(name, {})
    writeFileSync(join(real(path), 'initrd'), initrd)
    return `${path}/initrd`
  }
  const addToplevel = (name: string, kernelParams: string[], initrd: string | undefined) => {
    const toplevel = add(`nixos-system-${name}`, {
      init: parts.init,
      'nixos-version': '25.11.test',
      system: parts.platform,
      'kernel-params': kernelParams.join(' '),
      specialisation: {},
      ...parts.toplevel,
    })
    const link = (target: string, name: string) => symlinkSync(target, join(real(toplevel), name))
    link(`${kernel}/image`, 'kernel')
    link(modules, 'kernel-modules')
    link(etc, 'etc')
    link(sw, 'sw')
    if (parts.dtbs.length > 0) link(dtbs, 'dtbs')
    if (initrd !== undefined) link(initrd, 'initrd')
    return toplevel
  }
  const mainInitrd = addInitrd('initrd-test', parts.initrd)
  const toplevel = addToplevel('test', parts.kernelParams, mainInitrd)
  for (const [name, special] of Object.entries(parts.specialisations)) {
    const { kernelParams = parts.kernelParams } = special
    const initrd = addInitrd(`initrd-${name}`, special.initrd) ?? mainInitrd
    const path = addToplevel(name, kernelParams, initrd)
    symlinkSync(path, join(real(toplevel), 'specialisation', name))
  }

  const present = new Set<string>(closure)
  const treeOf = (path: StorePath) => Promise.resolve(present.has(path) ? real(path) : undefined)
  const narHash = parseHash(`sha256:${'0'.repeat(64)}`)
  assert.ok(narHash)
  return {
    system: await readSystem(storeFilesIn(treeOf), storePathOf(toplevel)),
    closure: closure.map((path) => ({ path, narHash, narSize: 1, references: [], signatures: [] })),
    treeOf,
    nfsRoot: image?.nfsRoot,
    image: image && makeImage(image),
  }
}

function storePathOf(path: string): StorePath {
  const storePath = toStorePath(path)
  assert.ok(storePath, path)
  return storePath
}

function writeContent(path: string, content: Content): void {
  if (typeof content === 'string') {
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, content)
    chmodSync(path, 0o444)
    return
  }
  mkdirSync(path, { recursive: true })
  for (const [name, child] of Object.entries(content)) writeContent(join(path, name), child)
}

function makeImage({ boot = {}, rootFiles = [] }: ImageParts): NonNullable<CheckInput['image']> {
  const bootTree = freshName()
  const bootFiles: TreeFile[] = []
  const folders = new Set<string>()
  for (const [path, content] of Object.entries(boot)) {
    if (typeof content === 'string') writeContent(join(bootTree, path), content)
    const size = typeof content === 'string' ? content.length : content
    bootFiles.push(treeFile(path, size))
    const parts = path.split('/').slice(0, -1)
    for (const at of parts.keys()) folders.add(parts.slice(0, at + 1).join('/'))
  }
  for (const path of folders) bootFiles.push({ type: 'directory', path, mode: '0755' })
  return { bootTree, bootFiles, rootFiles }
}

export function treeFile(path: string, size: number): TreeFile {
  return { type: 'file', path, mode: '0644', size, sha256: '0'.repeat(64) }
}

export async function findingsOf(
  changes?: Partial<SystemParts>,
  image?: ImageParts,
): Promise<CheckFinding[]> {
  return await checkSystem(await makeCheckInput(changes, image))
}

export type Expected = {
  rule: string
  level?: CheckFinding['level']
  message?: RegExp
  fix?: RegExp
  path?: RegExp
}

/** Asserts that these are all findings, in this order. */
export function assertFindings(findings: readonly CheckFinding[], ...expected: Expected[]): void {
  assert.deepEqual(
    findings.map(({ rule }) => rule),
    expected.map(({ rule }) => rule),
    JSON.stringify(findings, undefined, 2),
  )
  for (const [at, { level = 'error', message, fix, path }] of expected.entries()) {
    const finding = findings[at]
    assert.ok(finding)
    assert.equal(finding.level, level, finding.message)
    if (message) assert.match(finding.message, message)
    if (fix) assert.match(finding.fix, fix)
    if (path) assert.match(finding.path ?? 'none', path)
  }
}
