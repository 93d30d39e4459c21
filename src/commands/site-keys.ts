/** The command that makes the identity of a machine before its first boot. */
import { dirname } from 'node:path'

import { Command } from '@commander-js/extra-typings'

import { explained, NetimageError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { jsonOption, machineArgument, stateOption } from './common-options.ts'
import { runCommand } from './run.ts'
import { withMachine, type MachineOfSite } from './site-machine.ts'

export function keysCommand() {
  return new Command('keys')
    .description('Print the public SSH host key of a machine, which is made if it has none')
    .argument(...machineArgument)
    .addOption(stateOption)
    .option(...jsonOption)
    .action((named, flags) =>
      runCommand(flags, ({ progress }) =>
        withMachine(flags.state, named, async (found) => {
          const { machine, name } = found
          const { fingerprintOf } = await import('../site/host-key/open-ssh.ts')
          const { hostKeyLine } = await import('../site/host-key/in-root.ts')
          const { publicKey, isNew } = await hostKeyOf(found, (text) => progress.warn(text))
          const line = hostKeyLine(publicKey, name ?? machine)
          const fingerprint = fingerprintOf(publicKey)
          return { text: line, json: { machine, name, publicKey: line, fingerprint, isNew } }
        }),
      ),
    )
}

interface FoundKey {
  publicKey: Buffer
  /** Whether it was made now. */
  isNew: boolean
}

/** @param tell is told if the key could not be compared with that of the machine */
async function hostKeyOf(found: MachineOfSite, tell: (text: string) => void): Promise<FoundKey> {
  const { withLayer } = await import('../roots/store.ts')
  const { layerOf, layersOf, withoutReplaced } = await import('../roots/stored-layer.ts')
  const { readStored } = await import('../roots/read-stored.ts')
  const { hostKeyIn } = await import('../site/host-key/in-root.ts')
  const { state, machine, name = machine } = found
  const layer = layerOf(state, machine)
  try {
    makeDirectory(dirname(layer.directory))
    // A server cannot begin the first boot meanwhile.
    return await withLayer(layer, async () => {
      for (const stored of withoutReplaced(layersOf(state, machine))) {
        const publicKey = await readStored(stored, (root) => hostKeyIn(root, name))
        if (publicKey) return { publicKey, isNew: false }
      }
      return await madeBySite(found)
    })
  } catch (error) {
    if (!(error instanceof NetimageError && error.code === 'in-use')) throw error
    const made = found.hostKey()
    if (!made) throw explained(error, error.message, {}, hintIfInUse(name))
    tell(`${name} runs: this is the key that the site made for it. It may use another one since.`)
    return { publicKey: made.publicKey, isNew: false }
  }
}

/** The key and its row in the log are in the site, or none of them. */
async function madeBySite({ machine, name, hostKey, change }: MachineOfSite): Promise<FoundKey> {
  const { fingerprintOf, makeHostKey } = await import('../site/host-key/open-ssh.ts')
  const { commentFor } = await import('../site/host-key/in-root.ts')
  const known = hostKey()
  if (known) return { publicKey: known.publicKey, isNew: false }
  const { privateKey, publicKey } = makeHostKey(commentFor(name ?? machine))
  return await change((writer) => {
    writer.setHostKey(machine, privateKey)
    return {
      entry: { kind: 'host key', fingerprint: fingerprintOf(publicKey) },
      outcome: { publicKey, isNew: true },
    }
  })
}

function hintIfInUse(name: string): string {
  return `The machine runs, or another command uses its layer. Ask the machine for its key: ssh-keyscan -t ed25519 ADDRESS. Or power ${name} off, wait a minute until the server has noticed, and try again.`
}
