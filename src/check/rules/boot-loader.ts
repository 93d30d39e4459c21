/** Parts that the installer of a boot loader would add. It never runs for a net image. */
import { posix } from 'node:path'

import type { CheckContext } from '../context.ts'
import { findPerEntry, lines, type Rule } from '../rule.ts'

export const initrdSecretsLeftOut: Rule = {
  name: 'initrd-secrets-left-out',
  level: 'warning',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const initrd = await context.initrdOf(entry)
      if (!initrd || initrd.unread) return []
      const script = `${posix.dirname(entry.init)}/append-initrd-secrets`
      const names = secretsOf((await context.storeText(script)) ?? '')
      const missing = names.filter((name) => !initrd.addedSecrets.has(name))
      if (missing.length === 0) return []
      const which = missing.map((name) => `/${name}`).join(', ')
      const message = `the initrd lacks ${which} of boot.initrd.secrets: the installer of a boot loader would append them, and it does not run for a machine that boots over the network`
      return [{ message, fix: secretsFix, path: entry.initrd }]
    })
  },
}

/** The files that NixOS's script copies, by their names in stage 1. */
function secretsOf(script: string): string[] {
  const copies = script.matchAll(/^\s*cp -\S+ .*"\$tmp\/\.initrd-secrets\/+(.+)"\s*$/gm)
  return [...new Set([...copies].map(([, name = '']) => name))]
}

const secretsFix = lines(
  '# This puts the secrets into the initrd. Everybody can fetch the initrd over TFTP: use the keys for nothing else.',
  'boot.loader.supportsInitrdSecrets = lib.mkForce false;',
)

export const hypervisorLeftOut: Rule = {
  name: 'hypervisor-left-out',
  level: 'warning',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const path = `${posix.dirname(entry.init)}/boot.json`
      if (!(await isXenHost(context, path))) return []
      const message =
        'the system is a Xen host, but its boot menus start Linux without Xen: only the installer of a boot loader adds Xen to them'
      const fix = 'virtualisation.xen.enable = false;  # or boot the machine from a disk'
      return [{ message, fix, path }]
    })
  },
}

/** nixpkgs's extension of the bootspec. */
async function isXenHost(context: CheckContext, bootspec: string): Promise<boolean> {
  return /"org\.xenproject\.bootspec\.v\d+"\s*:/.test((await context.storeText(bootspec)) ?? '')
}
