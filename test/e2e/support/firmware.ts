// Files from Debian's packages: programs that machines run before the kernel, and loaders for boot
// trees.

import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { runProgram } from '../../support/real-nix.ts'
import { cacheDirectory } from './cache.ts'

export type Firmware = {
  /** The firmware of UEFI machines, and the memory with their settings. */
  ovmf: UefiFirmware
  aavmf: UefiFirmware
  /** With Secure Boot: it starts only programs that are signed with this published key. */
  secureOvmf: UefiFirmware & { key: { file: string; passphrase: string }; certificate: string }
  /** U-Boot for QEMU's aarch64 machine. */
  uboot: string
  /** A directory with iPXE's loaders. */
  ipxe: string
  /** A directory with the Raspberry Pi's firmware. */
  raspberryPi: string
  /** The loaders of PXELINUX, and the module that they need. */
  pxelinux: { 'pxelinux.0': string; 'lpxelinux.0': string; module: string }
  /** systemd's stub for unified kernel images, by Nix's names of systems. */
  stubs: { 'x86_64-linux': string; 'aarch64-linux': string }
}

export type UefiFirmware = { code: string; variables: string }

/** Downloads everything at the first call of the first run. */
export async function fetchFirmware(): Promise<Firmware> {
  const script = join(import.meta.dirname, 'fetch-firmware.sh')
  const unpacked = (await runProgram('sh', [script, cacheDirectory('firmware')])).trim()
  const uefi = (folder: string, code: string, variables: string) => ({
    code: join(unpacked, folder, code),
    variables: join(unpacked, folder, variables),
  })
  const snakeoil = join(unpacked, 'ovmf/usr/share/ovmf/PkKek-1-snakeoil')
  const stubs = (architecture: string) =>
    join(unpacked, `systemd-boot-efi-${architecture}`, 'usr/lib/systemd/boot/efi')
  return {
    ovmf: uefi('ovmf/usr/share/OVMF', 'OVMF_CODE_4M.fd', 'OVMF_VARS_4M.fd'),
    aavmf: uefi('qemu-efi-aarch64/usr/share/AAVMF', 'AAVMF_CODE.fd', 'AAVMF_VARS.fd'),
    secureOvmf: {
      ...uefi('ovmf/usr/share/OVMF', 'OVMF_CODE_4M.secboot.fd', 'OVMF_VARS_4M.snakeoil.fd'),
      key: { file: `${snakeoil}.key`, passphrase: 'snakeoil' },
      certificate: `${snakeoil}.pem`,
    },
    uboot: join(unpacked, 'u-boot-qemu/usr/lib/u-boot/qemu_arm64/u-boot.bin'),
    ipxe: join(unpacked, 'ipxe/usr/lib/ipxe'),
    raspberryPi: join(unpacked, 'raspi-firmware'),
    pxelinux: {
      'pxelinux.0': join(unpacked, 'pxelinux/usr/lib/PXELINUX/pxelinux.0'),
      'lpxelinux.0': join(unpacked, 'pxelinux/usr/lib/PXELINUX/lpxelinux.0'),
      module: join(unpacked, 'syslinux-common/usr/lib/syslinux/modules/bios/ldlinux.c32'),
    },
    stubs: {
      'x86_64-linux': join(stubs('amd64'), 'linuxx64.efi.stub'),
      'aarch64-linux': join(stubs('arm64'), 'linuxaa64.efi.stub'),
    },
  }
}

/** Makes a copy, for one machine, of the memory with the settings of UEFI. */
export function copyVariables({ variables }: UefiFirmware, directory: string): string {
  const copy = join(directory, 'uefi-variables')
  copyFileSync(variables, copy)
  return copy
}
