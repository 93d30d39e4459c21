/** Whether stage 1 can mount a root over NFS. */
import type { InitrdFacts } from '../../nixos/initrd/facts.ts'
import type { BootEntry } from '../../nixos/system.ts'
import type { CheckContext } from '../context.ts'
import { knownModules } from '../known-modules.ts'
import { wantedNfsVersion, wantsNfs } from '../nfs.ts'
import { findPerEntry, lines, type Problem, type Rule } from '../rule.ts'

export const noNfsClient: Rule = {
  name: 'no-nfs-client',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      if (!wantsNfs(context, entry)) return []
      const known = await knownModules(context, entry)
      if (!known) return []
      const { builtin, initrd } = known
      const has = (name: string) => builtin.has(name) || (initrd?.modules.has(name) ?? false)
      const missing = missingModules(has, wantedNfsVersion(context, entry))
      if (missing.length === 0) return []
      return [clientProblem(entry, missing)]
    })
  },
}

/** `nfs` alone mounts nothing: each version of the protocol is a module of its own. */
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
      message: `there is no initrd, and the kernel has no NFS client of its own (${names})`,
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

/** Programs that mount NFS, by what starts them. */
const helpers = ['mount.nfs', 'mount.nfs4']
const otherMounters = ['busybox', 'nfsmount']

export const noNfsHelper: Rule = {
  name: 'no-nfs-helper',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const initrd = await context.initrdOf(entry)
      if (!initrd || initrd.unread || !wantsNfs(context, entry)) return []
      // The kernel is the one that mounts, where there is nothing to start.
      if (initrd.init.kind === 'none' || canMount(context, initrd)) return []
      const isSystemd = initrd.init.kind === 'systemd'
      return [
        {
          message: isSystemd
            ? 'the initrd has no mount.nfs: systemd mounts with util-linux, which leaves NFS to that program'
            : 'the initrd has no program that mounts NFS: neither mount.nfs nor busybox',
          fix: isSystemd ? systemdFix : scriptedFix,
          path: entry.initrd,
        },
      ]
    })
  },
}

function canMount({ rootFileSystem }: CheckContext, { init, programs }: InitrdFacts): boolean {
  if (helpers.some((name) => programs.has(name))) return true
  if (init.kind !== 'systemd') return otherMounters.some((name) => programs.has(name))
  // With the server's address among the options the kernel needs no program.
  return rootFileSystem?.options.some((option) => option.startsWith('addr=')) ?? false
}

const systemdFix = lines(
  'boot.initrd.systemd.extraBin = {',
  '  "mount.nfs" = "${pkgs.nfs-utils}/bin/mount.nfs";',
  '  "mount.nfs4" = "${pkgs.nfs-utils}/bin/mount.nfs4";',
  '};',
)

const scriptedFix = lines(
  "boot.initrd.extraUtilsCommands = ''",
  '  copy_bin_and_libs ${pkgs.nfs-utils}/bin/mount.nfs',
  "'';",
)
