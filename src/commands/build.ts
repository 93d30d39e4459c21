import { readFile } from 'node:fs/promises'
import { setFlagsFromString } from 'node:v8'
import { Command, InvalidArgumentError, Option } from '@commander-js/extra-typings'

import type { BootSettings } from '../boot/request.ts'
import { bootWays, isBootWay, type BootWay } from '../boot/ways.ts'
import { fileSystemError } from '../errors.ts'
import type { BuiltImage } from '../image/build.ts'
import type { NetImageOptions } from '../image/options.ts'
import type { BuildRequest } from '../image/request.ts'
import { parseMac } from '../mac.ts'
import { withoutUndefined } from '../without-undefined.ts'
import { jsonOption } from './common-options.ts'
import { describeChecked, silenceOption } from './findings.ts'
import { formatBytes } from './format.ts'
import { plural, type Progress } from '../progress.ts'
import { visibleLines } from '../printable.ts'
import { runCommand, type Outcome, type Surroundings } from './run.ts'
import * as stores from './store-options.ts'

export function buildCommand() {
  return describeBuild().action((system, flags) =>
    runCommand(flags, (around) => build(system, flags, around)),
  )
}

/** Separate from the action, so that commander infers the type of the flags. */
function describeBuild() {
  return commandThatBuilds('build')
    .description('Build a net image from a NixOS system')
    .argument('<system>', 'a store path, a link to one (./result), or a host of a flake (.#host)')
    .option('-o, --output <dir>', 'where to put the image (default: ./<rootDirectoryName>)')
    .option('--force', 'replace an existing image once the new image is complete')
    .addOption(
      new Option('--format <format>', 'the root tree as a directory or as an archive')
        .choices(['directory', 'tar'] as const)
        .default('directory' as const),
    )
}

/** A command with the options that decide what is in an image. */
export function commandThatBuilds(name: string) {
  return new Command(name)
    .addOption(stores.fromOption)
    .addOption(stores.keysOption)
    .addOption(stores.noCheckSigsOption)
    .addOption(stores.netrcOption)
    .addOption(stores.poolOption)
    .addOption(
      new Option(
        '--link <how>',
        'how to take files from the pool if the file system cannot clone them (default: "copy")',
      ).choices(['copy', 'hardlink'] as const),
    )
    .addOption(
      new Option(
        '--boot <way>',
        'a way of booting; repeatable (default: the ways that the system asks for)',
      ).argParser(parseWay),
    )
    .addOption(silenceOption)
    .option('--device-tree <name>', 'the device tree that U-Boot loads')
    .option('--firmware <dir>', 'the Raspberry Pi’s firmware (raspberrypifw or raspi-firmware)')
    .option(
      '--uboot <file>',
      'U-Boot, which a Raspberry Pi’s firmware starts in place of the kernel',
    )
    .option('--config-txt <file>', 'lines for the end of the Raspberry Pi’s config.txt')
    .option('--ipxe <dir>', 'a directory with iPXE’s loaders, copied into the boot tree')
    .option('--uefi-stub <file>', 'systemd’s stub, if the system’s closure has none')
    .option('--sign-key <file>', 'sign the programs that UEFI starts with this key (by sbsign)')
    .option('--sign-cert <file>', 'the certificate of --sign-key')
    .addOption(
      new Option(
        '--machine <mac>',
        'a machine with a pxelinux.cfg of its own; repeatable',
      ).argParser(parseMachine),
    )
    .option('--config <file>', 'the options of the image (default: ./netimage.config.*)')
    .option('--image-base-name <name>', 'imageBaseName: first part of the default names')
    .option('--root-directory-name <name>', 'rootDirectoryName: name of the root tree')
    .option('--nfs-root <root>', 'nfsRoot: server:/path,v3, as on the kernel line')
    .addOption(
      new Option(
        '--store-paths <path>',
        'storePaths: another path for the root tree; repeatable',
      ).argParser(stores.collect),
    )
    .option('--populate-firmware-commands <shell>', 'populateFirmwareCommands')
    .option('--populate-root-commands <shell>', 'populateRootCommands')
    .option(...jsonOption)
    .option('-q, --quiet', 'show no progress')
}

export type BuildFlags = ReturnType<ReturnType<typeof commandThatBuilds>['opts']>

/** Builds the image that the flags and the config file ask for. */
export async function buildByFlags(
  system: string,
  flags: BuildFlags,
  place: Pick<BuildRequest, 'output' | 'force' | 'format'>,
  { signal, progress }: Surroundings,
): Promise<BuiltImage> {
  const { buildNetImage } = await import('../image/build.ts')
  const { loadConfig, requestOf } = await import('../image/config.ts')
  const { knownRules } = await import('../check/silence.ts')
  const configured = requestOf(await loadConfig(flags.config), 'the config file')
  const built = await buildNetImage({
    system,
    ...configured,
    options: { ...configured.options, ...optionFlags(flags) },
    bootSettings: { ...configured.bootSettings, ...(await flagSettings(flags)) },
    silenced: [...(configured.silenced ?? []), ...knownRules(flags.silence ?? [], '--silence')],
    ...stores.storeChoice(flags),
    ...withoutUndefined<Omit<BuildRequest, 'system'>>({
      pool: flags.pool,
      link: flags.link,
      boot: flags.boot,
    }),
    ...place,
    signal,
    progress: limitsHeap(progress),
  })
  // Findings go to stderr, even with --quiet: stdout has only the result.
  if (built.findings.length > 0 && !flags.json)
    process.stderr.write(`${visibleLines(describeChecked(built.findings))}\n`)
  return built
}

/** More than most systems have. */
const manyPaths = 2000

/**
 * With many store paths V8 would keep hundreds of megabytes of garbage. So when a task tells of
 * many, V8 is asked to save memory, which makes a small build slower by a tenth. The flag holds for
 * the whole process, so only commands set it, never the library.
 */
function limitsHeap(progress: Progress): Progress {
  let isLimited = false
  return {
    warn: (message) => progress.warn(message),
    begin(label, total) {
      const task = progress.begin(label, total)
      return {
        end: (summary) => task.end(summary),
        update(done) {
          if (!isLimited && (done.paths ?? 0) > manyPaths) {
            isLimited = true
            setFlagsFromString('--optimize-for-size')
          }
          task.update(done)
        },
      }
    },
  }
}

async function build(
  system: string,
  flags: ReturnType<ReturnType<typeof describeBuild>['opts']>,
  around: Surroundings,
): Promise<Outcome> {
  const { progress } = around
  const { output, force, format } = flags
  const place = withoutUndefined<Pick<BuildRequest, 'output' | 'force' | 'format'>>({
    ...{ output, force, format },
  })
  const { image, manifest, findings } = await buildByFlags(system, flags, place, around)
  const bytes = manifest.closure.reduce((sum, { narSize }) => sum + narSize, 0)
  const size = `${plural(manifest.closure.length, 'store path')}, ${formatBytes(bytes)}`
  progress.begin('done').end(`built ${manifest.system.label} (${size})`)
  return {
    text: image,
    json: {
      image,
      toplevel: manifest.system.toplevel,
      label: manifest.system.label,
      platform: manifest.system.platform,
      rootDirectoryName: manifest.options.rootDirectoryName,
      nfsRoot: manifest.options.nfsRoot,
      storePaths: manifest.closure.length,
      narBytes: bytes,
      findings,
    },
  }
}

/** The settings of ways of booting that were given as flags. */
async function flagSettings(flags: BuildFlags): Promise<BootSettings> {
  return withoutUndefined<BootSettings>({
    deviceTree: flags.deviceTree,
    firmware: flags.firmware,
    uboot: flags.uboot,
    configTxt: flags.configTxt === undefined ? undefined : await readText(flags.configTxt),
    ipxe: flags.ipxe,
    uefiStub: flags.uefiStub,
    signKey: flags.signKey,
    signCertificate: flags.signCert,
    machines: flags.machine,
  })
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw fileSystemError(`could not read ${file}`, error)
  }
}

/** `none`: netimage writes no boot files, and only the user's commands fill the boot tree. */
function parseWay(way: string, previous: BootWay[] | undefined): BootWay[] {
  if (way === 'none') {
    if (previous?.length) throw new InvalidArgumentError('none cannot be combined with other ways.')
    return []
  }
  if (!isBootWay(way)) {
    throw new InvalidArgumentError(`The choices are ${bootWays.join(', ')}, none.`)
  }
  return [...(previous ?? []), way]
}

function parseMachine(address: string, previous: string[] | undefined): string[] {
  if (parseMac(address) === undefined) {
    throw new InvalidArgumentError('A hardware address is six bytes: dc:a6:32:01:02:03.')
  }
  return [...(previous ?? []), address]
}

/** The options of the image that were given as flags. They override those of the config file. */
function optionFlags(flags: BuildFlags): NetImageOptions {
  const { imageBaseName, rootDirectoryName, nfsRoot, storePaths } = flags
  const { populateFirmwareCommands, populateRootCommands } = flags
  return withoutUndefined<NetImageOptions>({
    imageBaseName,
    rootDirectoryName,
    nfsRoot,
    storePaths,
    populateFirmwareCommands,
    populateRootCommands,
  })
}
