/** What everybody can read who can reach the exported store, or the initrd over TFTP. */
import { storeDir } from '../../nix/store-path.ts'
import type { CheckContext } from '../context.ts'
import { findPerEntry, type Problem, type Rule } from '../rule.ts'

/** More of the same in one store path say nothing new. */
const maxPerPath = 3

export const secretsInStore: Rule = {
  name: 'secrets-in-store',
  level: 'warning',
  async find(context) {
    const { found, knowsPublic } = await context.secretsInStore()
    const own = found.filter(({ isHostKey }) => !isHostKey)
    const perPath = Map.groupBy(own, ({ storePath }) => storePath)
    const problems: Problem[] = []
    for (const secrets of perPath.values()) {
      for (const { path, kind } of secrets.slice(0, maxPerPath)) {
        problems.push(storeProblem(path, kind, knowsPublic))
      }
      const more = secrets.length - maxPerPath
      const last = problems.at(-1)
      if (last && more > 0) last.message += `; so have ${more} more files of this store path`
    }
    return [...problems, ...(await secretsInInitrds(context))]
  },
}

function storeProblem(path: string, kind: string, knowsPublic: boolean): Problem {
  const doubt = knowsPublic
    ? ''
    : '; no signature says here which store paths are published anyway, so that it may be one of those'
  return {
    message: `${path} has a ${kind}, which everybody can read who can mount the root${doubt}`,
    fix:
      kind === 'password'
        ? 'users.users.<name>.hashedPasswordFile = "/path/outside/of/the/store";'
        : 'Name the file as a string ("/var/lib/…"), not as a path that Nix copies to the store, and bring it to the machine another way, as agenix and sops-nix do.',
    path,
  }
}

async function secretsInInitrds(context: CheckContext): Promise<Problem[]> {
  return await findPerEntry(context, async (entry) => {
    const secrets = (await context.initrdOf(entry))?.secrets ?? []
    return secrets
      .filter(({ isHostKey }) => !isHostKey)
      .slice(0, maxPerPath)
      .map(({ path, kind }) => ({
        message: `${path} of the initrd has a ${kind}, which everybody can fetch over TFTP`,
        fix: 'Take it out of boot.initrd.secrets, or of what else puts it into the initrd.',
        path: entry.initrd,
      }))
  })
}

export const hostKeysBakedIn: Rule = {
  name: 'host-keys-baked-in',
  level: 'warning',
  async find(context) {
    const { found } = await context.secretsInStore()
    const inStore = found.filter(({ isHostKey }) => isHostKey)
    const inInitrds = await findPerEntry(context, async (entry) => {
      const secrets = (await context.initrdOf(entry))?.secrets ?? []
      return secrets
        .filter(({ isHostKey }) => isHostKey)
        .map(({ path }) => hostKeyProblem(`${path} of the initrd`, entry.initrd, initrdKeyFix))
    })
    const inRoot = context.rootFiles
      .filter(({ type, path }) => type === 'file' && /(?:^|\/)ssh_host_\w+_key$/.test(path))
      .map(({ path }) => hostKeyProblem(`/${path}`, `/${path}`, rootKeyFix))
    return [
      ...inStore.map(({ path }) => hostKeyProblem(path, path, storeKeyFix)),
      ...inInitrds,
      ...inRoot,
    ]
  },
}

const rootKeyFix =
  'Make no host keys in populateRootCommands: sshd makes them at the first boot, in each machine’s own root.'
const storeKeyFix =
  'Take the key out of environment.etc and services.openssh.hostKeys: sshd makes its keys at the first boot, in each machine’s own root.'
const initrdKeyFix =
  'boot.initrd.network.ssh.hostKeys: keep to keys that are of no other use, and know that everybody can fetch them.'

function hostKeyProblem(what: string, path: string | undefined, fix: string): Problem {
  return {
    message: `${what} is an SSH host key, which every machine that boots the image would show as its own`,
    fix,
    path,
  }
}

export const machineIdBakedIn: Rule = {
  name: 'machine-id-baked-in',
  level: 'warning',
  async find(context) {
    const inEtc = `${context.system.toplevel}/etc/machine-id`
    const file = await context.storeFile(inEtc)
    const text = await context.storeText(inEtc)
    const problems: Problem[] = []
    if (file && text !== undefined && /^[0-9a-f]{32}\s*$/.test(text)) {
      problems.push({
        message: `/etc/machine-id comes from ${file.path}: every machine that boots the system has the same`,
        fix: '# environment.etc."machine-id": take it out, so that each machine makes its own',
        path: file.path.startsWith(storeDir) ? file.path : inEtc,
      })
    }
    const inRoot = context.rootFiles.find(({ path }) => path === 'etc/machine-id')
    if (inRoot?.type === 'file' && machineIdBytes.has(inRoot.size)) {
      problems.push({
        message:
          'the root tree has an /etc/machine-id: every machine that boots the image has the same',
        fix: 'Make no /etc/machine-id in populateRootCommands, or an empty one.',
        path: '/etc/machine-id',
      })
    }
    return problems
  },
}

/** 32 digits, with or without the end of a line; an empty one, or `uninitialized`, is filled in. */
const machineIdBytes = new Set([32, 33])
