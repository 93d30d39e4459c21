// Machines without disks that boot from a test's network. Their console is what they print.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { copyVariables, type Firmware, type UefiFirmware } from './firmware.ts'
import type { Network } from './network.ts'
import { findProgram } from './packages.ts'
import type { Program } from './program.ts'

/** A kind of machine: how to start one. */
export type Machine = {
  command: (parts: MachineParts) => string[]
  /** What somebody has to do at its console after power-on. */
  attend?: (console: Program) => Promise<void>
  /** What its firmware says when nothing is left that it could boot. */
  givesUp?: RegExp
}

export type MachineParts = {
  mac: string
  tap: string
  /** For files of its own. */
  directory: string
}

/** What a machine starts when it is handed over by the one who switches it on. */
export type Kernel = {
  kernel: string
  initrd: string
  kernelLine: string
}

export type PoweredMachine = Omit<Program, 'name' | 'pid' | 'kill'> & {
  /** Cut the power. */
  powerOff: () => Promise<void>
}

export async function powerOn(
  network: Network,
  { name, mac, machine }: { name: string; mac: string; machine: Machine },
): Promise<PoweredMachine> {
  const directory = join(network.directory, 'machines', name)
  mkdirSync(directory, { recursive: true })
  const tap = await network.addTap()
  const hopeless = new RegExp(`Kernel panic|${(machine.givesUp ?? /Kernel panic/).source}`)
  const program = network.start(name, machine.command({ mac, tap, directory }), hopeless)
  await machine.attend?.(program)
  return { ...program, powerOff: program.kill }
}

// --- User Mode Linux -------------------------------------------------------------------------

/** Linux as a program, without any emulator: the fastest of all. */
export function userModeLinux({ kernel, initrd, kernelLine }: Kernel): Machine {
  return {
    command: ({ mac, tap, directory }) => {
      // Without gro it drops the large segments that the server sends, and hangs.
      const card = `vec0:transport=tap,ifname=${tap},depth=128,gro=1,mac=${mac}`
      const settings = [
        'mem=512M',
        'con0=fd:0,fd:1',
        'con=null',
        'panic=-1',
        `uml_dir=${directory}`,
      ]
      const line = [`initrd=${initrd}`, card, ...settings, ...kernelLine.split(' ')]
      return ['env', `HOME=${directory}`, kernel, ...line]
    },
  }
}

// --- QEMU ------------------------------------------------------------------------------------

const emulated = ['-accel', 'tcg,thread=multi', '-smp', '1', '-nodefaults', '-no-reboot']
const serialConsole = ['-display', 'none', '-serial', 'stdio']

function qemuX86(board: string, ...rest: string[]): string[] {
  const machine = ['-machine', board, '-cpu', 'qemu64', '-m', '1024']
  return [findProgram('qemu-system-x86_64'), ...machine, ...emulated, ...serialConsole, ...rest]
}

function qemuArm64(...rest: string[]): string[] {
  const machine = ['-machine', 'virt', '-cpu', 'cortex-a72', '-m', '1024']
  return [findProgram('qemu-system-aarch64'), ...machine, ...emulated, ...serialConsole, ...rest]
}

/** @param rom whether the network card brings iPXE, as the boot ROM of a BIOS machine */
function networkCard({ mac, tap }: MachineParts, rom: boolean): string[] {
  const device = `virtio-net-pci,netdev=net0,mac=${mac},bootindex=1${rom ? '' : ',romfile='}`
  // UEFI cannot make connections without a source of random numbers.
  const random = ['-device', 'virtio-rng-pci']
  return ['-netdev', tapBackend(tap), '-device', device, ...random]
}

function tapBackend(tap: string): string {
  return `tap,id=net0,ifname=${tap},script=no,downscript=no`
}

function uefi(firmware: UefiFirmware, { directory }: MachineParts): string[] {
  const flash = (unit: number, file: string, readonly: string) => [
    '-drive',
    `if=pflash,format=raw,unit=${unit},readonly=${readonly},file=${file}`,
  ]
  const variables = copyVariables(firmware, directory)
  return [...flash(0, firmware.code, 'on'), ...flash(1, variables, 'off')]
}

function directly({ kernel, initrd, kernelLine }: Kernel): string[] {
  return ['-kernel', kernel, '-initrd', initrd, '-append', kernelLine]
}

/** x86_64 without a loader: QEMU itself starts the kernel. */
export function x86Direct(kernel: Kernel): Machine {
  return { command: (parts) => qemuX86('q35', ...directly(kernel), ...networkCard(parts, false)) }
}

/** x86_64 with BIOS, whose network card boots by iPXE. */
export function x86Bios(): Machine {
  // Without graphics the BIOS writes to the serial console.
  return {
    command: (parts) => qemuX86('q35,graphics=off', ...networkCard(parts, true)),
    givesUp: /No bootable device/,
  }
}

/**
 * x86_64 with BIOS, whose network card boots by PXE and does not say that iPXE does it: all boot
 * ROMs that QEMU has are iPXE.
 */
export function x86BiosPxe(): Machine {
  return {
    ...x86Bios(),
    async attend(console) {
      await console.waitFor(/Press Ctrl-B for the iPXE command line/, 120)
      console.type('\x02')
      await typeSlowly(console, 'set user-class none')
      await typeSlowly(console, 'dhcp')
      // The loader would take it over.
      await typeSlowly(console, 'clear user-class')
      await typeSlowly(console, 'chain ${filename}')
    },
  }
}

/** Type a command at iPXE's prompt; the BIOS loses what is typed before the last was read. */
async function typeSlowly(console: Program, command: string): Promise<void> {
  await console.waitFor(/iPXE> ?$/, 60)
  for (let typed = 1; typed <= command.length; typed++) {
    console.type(command.charAt(typed - 1))
    const echo = `iPXE> ${command.slice(0, typed)}`.trimEnd()
    await console.waitFor(new RegExp(echo.replace('$', '\\$')), 60)
  }
  console.type('\r')
}

/** It goes on to IPv6 and other ways, which take minutes and lead nowhere here. */
const uefiGivesUp = /failed to load Boot.* "UEFI (PXE|HTTP)v4/

/** x86_64 with UEFI. */
export function x86Uefi({ ovmf }: Firmware, by: 'pxe' | 'http'): Machine {
  return {
    command: (parts) =>
      qemuX86('q35', ...uefi(ovmf, parts), ...uefiBoot(by), ...networkCard(parts, false)),
    givesUp: uefiGivesUp,
  }
}

/** x86_64 with UEFI that starts nothing but what is signed with a key that it knows. */
export function x86SecureUefi({ secureOvmf }: Firmware): Machine {
  // Only code in system management mode may write to the flash memory, where the keys are.
  const guard = ['-global', 'driver=cfi.pflash01,property=secure,value=on']
  return {
    command: (parts) =>
      qemuX86('q35,smm=on', ...guard, ...uefi(secureOvmf, parts), ...networkCard(parts, false)),
    givesUp: uefiGivesUp,
  }
}

/**
 * A Raspberry Pi 3 as far as QEMU has it: without a boot ROM, and with a network card on USB that
 * is so slow that a system takes minutes to come up.
 */
export function raspberryPi3(kernel: Kernel & { deviceTree: string }): Machine {
  return {
    command: ({ mac, tap }) => [
      findProgram('qemu-system-aarch64'),
      ...['-machine', 'raspi3b', '-no-reboot', ...serialConsole],
      ...[...directly(kernel), '-dtb', kernel.deviceTree],
      ...['-netdev', tapBackend(tap), '-device', `usb-net,netdev=net0,mac=${mac}`],
    ],
  }
}

/** aarch64 with UEFI (EDK2). */
export function arm64Uefi({ aavmf }: Firmware, by: 'pxe' | 'http'): Machine {
  return {
    command: (parts) =>
      qemuArm64(...uefi(aavmf, parts), ...uefiBoot(by), ...networkCard(parts, false)),
    givesUp: uefiGivesUp,
  }
}

/** UEFI tries PXE for a minute before HTTP, unless it is told to leave that out. */
function uefiBoot(by: 'pxe' | 'http'): string[] {
  if (by === 'pxe') return []
  const without = (name: string) => ['-fw_cfg', `name=opt/org.tianocore/${name},string=n`]
  return [...without('IPv4PXESupport'), ...without('IPv6PXESupport')]
}

/**
 * aarch64 with U-Boot. Not every version of it boots from the network by itself; these are the
 * commands of its own `bootcmd_pxe`.
 *
 * @param settings commands that go before them, each with a semicolon
 */
export function arm64Uboot({ uboot }: Pick<Firmware, 'uboot'>, settings = ''): Machine {
  return {
    command: (parts) => qemuArm64('-bios', uboot, ...networkCard(parts, false)),
    async attend(console) {
      await console.waitFor(/Hit any key to stop autoboot/, 120)
      console.type('\r')
      await console.waitFor(/^=> ?$/, 60)
      console.type(`${settings}setenv autoload no; dhcp; pxe get; pxe boot; echo gave up\r`)
    },
    givesUp: /^gave up$/,
  }
}
