/** The secrets in the store paths of a closure, as far as the pool knows them. */
import type { KnownSecrets } from '../check/input.ts'
import type { Closure } from '../nix/closure.ts'
import type { Pool } from '../pool/pool.ts'

export function knownSecrets(closure: Closure, pool: Pool): KnownSecrets {
  return {
    of(path) {
      const entry = closure.get(path)
      return entry && pool.secretsIn(entry.info)
    },
    keep(path, secrets) {
      const entry = closure.get(path)
      if (entry) pool.keepSecrets(entry.info, secrets)
    },
  }
}
