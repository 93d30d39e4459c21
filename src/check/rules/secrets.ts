/**
 * Secrets that everybody on the network can read: in the exported store, and in the initrd over
 * TFTP.
 */
import { storeDir } from '../../nix/store-path.ts'
import type { CheckContext } from '../context.ts'
import { findPerEntry, type Problem, type Rule } from '../rule.ts'

/** More findings of one store path tell nothing new. */
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
      if (last && more > 0) last.message += `; ${more} more files of this store path have secrets`
    }
    return [...problems, ...(await secretsInInitrds(context))]
  },
}

function storeProblem(path: string, kind: string, knowsPublic: boolean): Problem {
  const doubt = knowsPublic
    ? ''
    : '; without signatures, netimage cannot tell whether this store path is public anyway'
  return {
    message: `${path} has a ${kind}, and everybody who can mount the root can read it${doubt}`,
    fix:
      kind === 'password'
        ? 'users.users.<name>.hashedPasswordFile = "/path/outside/of/the/store";'
        : 'Name the file by a string ("/var/lib/…"), because Nix copies paths to the store. Bring the file to the machine by another way, such as agenix or sops-nix.',
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
        message: `${path} of the initrd has a ${kind}, and everybody can fetch it over TFTP`,
        fix: 'Remove the file from boot.initrd.secrets, or from the option that puts it into the initrd.',
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
  'Make no host keys in populateRootCommands. sshd makes them at the first boot, in the root of each machine.'
const storeKeyFix =
  'Remove the key from environment.etc and services.openssh.hostKeys. sshd makes its keys at the first boot, in the root of each machine.'
const initrdKeyFix =
  'In boot.initrd.network.ssh.hostKeys, use keys that have no other use: everybody can fetch them.'

function hostKeyProblem(what: string, path: string | undefined, fix: string): Problem {
  return {
    message: `${what} is an SSH host key: all machines that boot the image would have the same host key`,
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
        message: `/etc/machine-id comes from ${file.path}: all machines that boot the system have the same ID`,
        fix: '# environment.etc."machine-id": remove it, so that each machine makes its own ID',
        path: file.path.startsWith(storeDir) ? file.path : inEtc,
      })
    }
    const inRoot = context.rootFiles.find(({ path }) => path === 'etc/machine-id')
    if (inRoot?.type === 'file' && machineIdBytes.has(inRoot.size)) {
      problems.push({
        message:
          'the root tree has an /etc/machine-id: all machines that boot the image have the same ID',
        fix: 'In populateRootCommands, make no /etc/machine-id or an empty one.',
        path: '/etc/machine-id',
      })
    }
    return problems
  },
}

/** 32 digits, with or without a line end. The machine fills in an empty file or `uninitialized`. */
const machineIdBytes = new Set([32, 33])
