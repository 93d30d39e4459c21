/** Whether stage 1 can mount a root over NFS. */
import type { InitrdFacts } from '../../nixos/initrd/facts.ts'
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { knownModules } from '../known-modules.ts'
import {
  mountedNfsVersion,
  mountHelper,
  mountsNfsInStage1,
  unfoundHelper,
  wantsNfs,
} from '../nfs.ts'
import { findPerEntry, lines, type Problem, type Rule } from '../rule.ts'

export const noNfsClient: Rule = {
  name: 'no-nfs-client',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      if (!(await wantsNfs(context, entry))) return []
      const known = await knownModules(context, entry)
      if (!known) return []
      const { builtin, initrd } = known
      const has = (name: string) => builtin.has(name) || (initrd?.modules.has(name) ?? false)
      const missing = missingModules(has, await mountedNfsVersion(context, entry))
      if (missing.length === 0) return []
      return [clientProblem(entry, missing)]
    })
  },
}

/** Each version of the protocol has its own module, which `nfs` needs to mount. */
function missingModules(has: (name: string) => boolean, version: string | undefined): string[] {
  const missing = has('nfs') ? [] : ['nfs']
  if (version === undefined) {
    if (!has('nfsv3') && !has('nfsv4')) missing.push('nfsv3')
  } else {
    const needed = `nfsv${version.slice(0, 1)}`
    if (!has(needed)) missing.push(needed)
  }
  return missing
}

function clientProblem(entry: BootEntry, missing: readonly string[]): Problem {
  const names = missing.join(' and ')
  if (entry.initrd === undefined) {
    return {
      message: `there is no initrd, and the kernel has no built-in NFS client (${names})`,
      fix: lines('boot.initrd.enable = true;', moduleLines(missing)),
      path: entry.kernel,
    }
  }
  const modules = missing.length === 1 ? 'the module' : 'the modules'
  return {
    message: `the initrd cannot mount NFS: ${modules} ${names} ${missing.length === 1 ? 'is' : 'are'} neither in it nor in the kernel`,
    fix: moduleLines(missing),
    path: entry.initrd,
  }
}

function moduleLines(modules: readonly string[]): string {
  return `boot.initrd.kernelModules = [ ${modules.map((name) => `"${name}"`).join(' ')} ];`
}

/** Programs that mount NFS for scripts, besides `mount.nfs`. */
const otherMounters = ['busybox', 'nfsmount']

export const noNfsHelper: Rule = {
  name: 'no-nfs-helper',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const initrd = await context.initrdOf(entry)
      if (!initrd || initrd.unread || !(await wantsNfs(context, entry))) return []
      // Without an init the kernel mounts the root. We cannot know what a foreign init does.
      if (initrd.init.kind === 'none' || initrd.init.kind === 'other') return []
      if (canMount(context, initrd)) return []
      const isSystemd = initrd.init.kind === 'systemd'
      return [
        {
          message: isSystemd
            ? whySystemdCannotMount(initrd)
            : 'the initrd has no program that mounts NFS: neither mount.nfs nor busybox',
          fix: isSystemd ? systemdFix : scriptedFix,
          path: entry.initrd,
        },
      ]
    })
  },
}

function whySystemdCannotMount(initrd: InitrdFacts): string {
  const why = 'systemd mounts with util-linux, which needs this program for NFS'
  const unfound = unfoundHelper(initrd)
  if (unfound === undefined) return `the initrd has no mount.nfs in /sbin: ${why}`
  return `the initrd has ${unfound}, but not in /sbin: ${why} and looks only there`
}

/** Files of /etc in which `mount.nfs` looks up TCP and UDP. */
const protocolFiles = ['netconfig', 'protocols']

export const noNfsProtocols: Rule = {
  name: 'no-nfs-protocols',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const initrd = await context.initrdOf(entry)
      if (!initrd || initrd.unread || initrd.init.kind !== 'systemd') return []
      if (mountHelper(initrd) === undefined) return []
      const missing = protocolFiles.filter((name) => !initrd.etcFiles.has(name))
      const why = missing.length > 0 ? await whyProtocols(context, entry) : undefined
      if (why === undefined) return []
      const names = missing.map((name) => `/etc/${name}`).join(' and ')
      return [
        {
          message: `the initrd’s mount.nfs cannot look up TCP, but ${why} needs this: ${names} ${missing.length === 1 ? 'is' : 'are'} missing`,
          fix: protocolsFix,
          path: entry.initrd,
        },
      ]
    })
  },
}

/** The reason to look up a protocol by name; undefined if there is none, or if it is not known. */
async function whyProtocols(context: CheckContext, entry: BootEntry): Promise<string | undefined> {
  if (!(await mountsNfsInStage1(context, entry))) return undefined
  const named = context.rootFileSystem?.options.find((option) => /^(?:mount)?proto=/.test(option))
  if (named !== undefined) return `the option ${named}`
  // Version 4 uses one fixed port, so nothing has to be looked up.
  return (await mountedNfsVersion(context, entry)) === '3' ? 'version 3 of NFS' : undefined
}

function canMount({ rootFileSystem }: CheckContext, initrd: InitrdFacts): boolean {
  if (mountHelper(initrd) !== undefined) return true
  const { init, programs } = initrd
  if (init.kind !== 'systemd') return otherMounters.some((name) => programs.has(name))
  // If the options have the server's address, the kernel needs no program.
  return rootFileSystem?.options.some((option) => option.startsWith('addr=')) ?? false
}

const protocolsFix = lines(
  'boot.initrd.systemd.contents = {',
  '  "/etc/netconfig".source = "${pkgs.libtirpc}/etc/netconfig";',
  '  "/etc/protocols".source = config.environment.etc.protocols.source;',
  '};',
)

const systemdFix = lines(
  '# puts the programs into /sbin of the initrd; before 24.11 extraBin puts them only into /bin',
  'boot.initrd.systemd.initrdBin = [',
  '  (pkgs.runCommand "nfs-mount-helpers" { } \'\'',
  '    mkdir -p $out/sbin',
  '    ln -s ${pkgs.nfs-utils}/bin/mount.nfs ${pkgs.nfs-utils}/bin/mount.nfs4 $out/sbin',
  "  '')",
  '];',
  protocolsFix,
)

const scriptedFix = lines(
  "boot.initrd.extraUtilsCommands = ''",
  '  copy_bin_and_libs ${pkgs.nfs-utils}/bin/mount.nfs',
  "'';",
)
