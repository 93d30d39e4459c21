// Machines without disks that boot from a test's network. Their output is their console.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '../../support/packages.ts'
import { copyVariables, type Firmware, type UefiFirmware } from './firmware.ts'
import type { Network } from './network.ts'
import type { Program } from './program.ts'
import { userModeLinuxCommand } from './user-mode-linux.ts'

/** A kind of machine, and how to start it. */
export type Machine = {
  command: (parts: MachineParts) => string[]
  /** Types at the console after power-on. */
  attend?: (console: Program) => Promise<void>
  /** The message of the firmware when it gives up. */
  givesUp?: RegExp
  /** Whether the machine starts again, instead of ending, if its system asks for it or panics. */
  startsAgain?: true
}

export type MachineParts = {
  mac: string
  tap: string
  /** A directory for files of the machine. */
  directory: string
}

/** A kernel that the emulator starts directly, without a loader. */
export type Kernel = {
  kernel: string
  initrd: string
  kernelLine: string
}

export type PoweredMachine = Omit<Program, 'name' | 'kill'> & {
  /** Cuts the power. */
  powerOff: () => Promise<void>
}

export async function powerOn(
  network: Network,
  { name, mac, machine }: { name: string; mac: string; machine: Machine },
): Promise<PoweredMachine> {
  const directory = join(network.directory, 'machines', name)
  mkdirSync(directory, { recursive: true })
  const tap = await network.addTap()
  const hopeless = [
    ...(machine.startsAgain ? [] : ['Kernel panic']),
    ...(machine.givesUp ? [machine.givesUp.source] : []),
  ]
  const program = network.start(
    name,
    machine.command({ mac, tap, directory }),
    hopeless.length > 0 ? new RegExp(hopeless.join('|')) : undefined,
  )
  await machine.attend?.(program)
  return { ...program, powerOff: program.kill }
}

/** How often a machine is switched on if its firmware or its loader gives up. */
const maxTries = 5

/**
 * What firmware and loaders print if they give up a download after some seconds without data. The
 * servers are configured well if a download has begun before that.
 */
const givenUp = [
  { begun: /Downloading/, last: /failed to load Boot/ },
  { begun: /PXELINUX/, last: /Unable to locate configuration file/ },
]

/**
 * Powers a machine on until it reaches something. If its firmware gives up, which happens if this
 * computer is busy, the machine is powered on again.
 */
export async function powerOnUntil<T>(
  network: Network,
  request: Parameters<typeof powerOn>[1],
  reach: (machine: PoweredMachine) => Promise<T>,
): Promise<{ machine: PoweredMachine; reached: T; tries: number }> {
  for (let tries = 1; ; tries++) {
    const name = tries === 1 ? request.name : `${request.name}-${tries}`
    const machine = await powerOn(network, { ...request, name })
    try {
      return { machine, reached: await reach(machine), tries }
    } catch (error) {
      const shows = (pattern: RegExp) => machine.lines().some(({ text }) => pattern.test(text))
      const isGivenUp = givenUp.some(({ begun, last }) => shows(begun) && shows(last))
      if (!isGivenUp || tries === maxTries) throw error
      await machine.powerOff()
    }
  }
}

/** The machine starts again if its system asks for it or panics. Without this, it ends then. */
export function restarting(machine: Machine): Machine {
  return {
    ...machine,
    startsAgain: true,
    command: (parts) => machine.command(parts).filter((word) => word !== endsOnRestart),
  }
}

// --- User Mode Linux -------------------------------------------------------------------------

export function userModeLinux({ kernel, initrd, kernelLine }: Kernel): Machine {
  return {
    command: ({ mac, tap, directory }) => {
      // Without gro, the driver drops the large segments of the server, and hangs.
      const card = `vec0:transport=tap,ifname=${tap},depth=128,gro=1,mac=${mac}`
      const line = [`initrd=${initrd}`, card, ...kernelLine.split(' ')]
      return userModeLinuxCommand({ kernel, directory, memory: '512M', line })
    },
  }
}

// --- QEMU ------------------------------------------------------------------------------------

const endsOnRestart = '-no-reboot'
const emulated = ['-accel', 'tcg,thread=multi', '-smp', '1', '-nodefaults', endsOnRestart]
const serialConsole = ['-display', 'none', '-serial', 'stdio']

function qemuX86(board: string, ...rest: string[]): string[] {
  const machine = ['-machine', board, '-cpu', 'qemu64', '-m', '1024']
  return [findProgram('qemu-system-x86_64'), ...machine, ...emulated, ...serialConsole, ...rest]
}

function qemuArm64(...rest: string[]): string[] {
  const machine = ['-machine', 'virt', '-cpu', 'cortex-a72', '-m', '1024']
  return [findProgram('qemu-system-aarch64'), ...machine, ...emulated, ...serialConsole, ...rest]
}

/** @param rom whether the network card has iPXE as its boot ROM (for BIOS machines) */
function networkCard({ mac, tap }: MachineParts, rom: boolean): string[] {
  const device = `virtio-net-pci,netdev=net0,mac=${mac},bootindex=1${rom ? '' : ',romfile='}`
  // UEFI cannot open connections without a source of random numbers.
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

/** x86_64 without a loader: QEMU starts the kernel. */
export function x86Direct(kernel: Kernel): Machine {
  return { command: (parts) => qemuX86('q35', ...directly(kernel), ...networkCard(parts, false)) }
}

/** x86_64 with BIOS, whose network card boots by iPXE. */
export function x86Bios(): Machine {
  // Without a graphics card, the BIOS writes to the serial console.
  return {
    command: (parts) => qemuX86('q35,graphics=off', ...networkCard(parts, true)),
    givesUp: /No bootable device|Unable to locate configuration file/,
  }
}

/**
 * x86_64 with BIOS, whose network card boots by PXE. All boot ROMs of QEMU are iPXE, so this one is
 * told not to identify itself as iPXE.
 */
export function x86BiosPxe(): Machine {
  return {
    ...x86Bios(),
    async attend(console) {
      await console.waitFor(/Press Ctrl-B for the iPXE command line/)
      console.type('\x02')
      await typeSlowly(console, 'set user-class none')
      await typeSlowly(console, 'dhcp')
      // Otherwise the loader would use the same user class.
      await typeSlowly(console, 'clear user-class')
      await typeSlowly(console, 'chain ${filename}')
    },
  }
}

/** Types slowly at iPXE's prompt: the BIOS loses a key if the last one was not read yet. */
async function typeSlowly(console: Program, command: string): Promise<void> {
  await console.waitFor(/iPXE> ?$/)
  for (let typed = 1; typed <= command.length; typed++) {
    console.type(command.charAt(typed - 1))
    const echo = `iPXE> ${command.slice(0, typed)}`.trimEnd()
    await console.waitFor(new RegExp(echo.replace('$', '\\$')))
  }
  console.type('\r')
}

/** After this, UEFI tries IPv6 and other ways, which take minutes and cannot succeed here. */
const uefiGivesUp = /failed to load Boot.* "UEFI (PXE|HTTP)v4/

/** x86_64 with UEFI. */
export function x86Uefi({ ovmf }: Firmware, by: 'pxe' | 'http'): Machine {
  return {
    command: (parts) =>
      qemuX86('q35', ...uefi(ovmf, parts), ...uefiBoot(by), ...networkCard(parts, false)),
    givesUp: uefiGivesUp,
  }
}

/** x86_64 with UEFI that starts only programs that are signed with a known key. */
export function x86SecureUefi({ secureOvmf }: Firmware): Machine {
  // Only code in system management mode may write to the flash memory with the keys.
  const guard = ['-global', 'driver=cfi.pflash01,property=secure,value=on']
  return {
    command: (parts) =>
      qemuX86('q35,smm=on', ...guard, ...uefi(secureOvmf, parts), ...networkCard(parts, false)),
    givesUp: uefiGivesUp,
  }
}

/**
 * The Raspberry Pi 3 of QEMU: it has no boot ROM, and its USB network card is slow, so a system
 * needs minutes to boot.
 */
export function raspberryPi3(kernel: Kernel & { deviceTree: string }): Machine {
  return {
    command: ({ mac, tap }) => [
      findProgram('qemu-system-aarch64'),
      ...['-machine', 'raspi3b', endsOnRestart, ...serialConsole],
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

/** Disables PXE for HTTP boots: otherwise UEFI tries PXE for a minute before HTTP. */
function uefiBoot(by: 'pxe' | 'http'): string[] {
  if (by === 'pxe') return []
  const without = (name: string) => ['-fw_cfg', `name=opt/org.tianocore/${name},string=n`]
  return [...without('IPv4PXESupport'), ...without('IPv6PXESupport')]
}

/**
 * aarch64 with U-Boot, which boots by its own commands. They are those of U-Boot for a Raspberry Pi,
 * but do not ask for a menu before they ask for a program for UEFI.
 */
export function arm64UbootAlone(uboot: string): Machine {
  return {
    // U-Boot's driver of the virtual card hangs if TCP sends many packets at once: it does not tell
    // the card that it has taken packets.
    command: ({ mac, tap }) => [
      ...qemuArm64('-bios', uboot, '-netdev', tapBackend(tap)),
      ...['-device', `e1000,netdev=net0,mac=${mac},romfile=`],
    ],
    givesUp: /^=> ?$/,
  }
}

/**
 * aarch64 with U-Boot. Some versions do not boot from the network by default, so we type the
 * commands of its `bootcmd_pxe`.
 *
 * @param settings commands to type before these, each with a semicolon
 */
export function arm64Uboot({ uboot }: Pick<Firmware, 'uboot'>, settings = ''): Machine {
  return {
    command: (parts) => qemuArm64('-bios', uboot, ...networkCard(parts, false)),
    async attend(console) {
      await console.waitFor(/Hit any key to stop autoboot/)
      console.type('\r')
      await console.waitFor(/^=> ?$/)
      console.type(`${settings}setenv autoload no; dhcp; pxe get; pxe boot; echo gave up\r`)
    },
    givesUp: /^gave up$/,
  }
}
