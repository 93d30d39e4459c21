import { Command, Option } from '@commander-js/extra-typings'

import { formatBytes, plural } from './format.ts'
import { runCommand, type Outcome, type RunOptions } from './run.ts'
import * as stores from './store-options.ts'

export function buildCommand() {
  return new Command('build')
    .description('Build a net image from a NixOS system')
    .argument('<system>', 'a store path, a link to one (./result), or a host of a flake (.#host)')
    .option('-o, --output <dir>', 'where the image goes (default: ./<rootDirectoryName>)')
    .option('--force', 'replace an image that is there, once the new one is complete')
    .addOption(stores.fromOption)
    .addOption(stores.keysOption)
    .addOption(stores.noCheckSigsOption)
    .addOption(stores.netrcOption)
    .addOption(stores.poolOption)
    .addOption(
      new Option(
        '--link <how>',
        'how files come from the pool where the file system cannot clone them',
      )
        .choices(['copy', 'hardlink'] as const)
        .default('copy' as const),
    )
    .addOption(
      new Option('--format <format>', 'the root tree as a directory or as an archive')
        .choices(['directory', 'tar'] as const)
        .default('directory' as const),
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
    .option('--json', 'print the result as JSON')
    .option('-q, --quiet', 'show no progress')
    .action((system, flags) => runCommand(flags, (around) => build(system, flags, around)))
}

type BuildFlags = RunOptions &
  stores.StoreFlags & {
    output?: string | undefined
    force?: true | undefined
    pool?: string | undefined
    link: 'copy' | 'hardlink'
    format: 'directory' | 'tar'
    config?: string | undefined
    imageBaseName?: string | undefined
    rootDirectoryName?: string | undefined
    nfsRoot?: string | undefined
    storePaths?: string[] | undefined
    populateFirmwareCommands?: string | undefined
    populateRootCommands?: string | undefined
  }

async function build(
  system: string,
  flags: BuildFlags,
  { signal, progress }: Parameters<Parameters<typeof runCommand>[1]>[0],
): Promise<Outcome> {
  const { buildNetImage } = await import('../image/build.ts')
  const { loadConfig } = await import('../image/config.ts')
  const { image, manifest } = await buildNetImage({
    system,
    options: { ...(await loadConfig(flags.config)), ...optionFlags(flags) },
    force: flags.force ?? false,
    link: flags.link,
    format: flags.format,
    signal,
    progress,
    ...stores.storeChoice(flags),
    ...(flags.output !== undefined && { output: flags.output }),
    ...(flags.pool !== undefined && { pool: flags.pool }),
  })
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
    },
  }
}

/** The options of the image that were given as flags, which count before the config file's. */
function optionFlags(flags: BuildFlags): object {
  const { imageBaseName, rootDirectoryName, nfsRoot, storePaths } = flags
  const { populateFirmwareCommands, populateRootCommands } = flags
  const given = {
    imageBaseName,
    rootDirectoryName,
    nfsRoot,
    storePaths,
    populateFirmwareCommands,
    populateRootCommands,
  }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}
