/** Which shard owns a machine: the one that opens its layer and answers its requests. */
import { hash } from 'node:crypto'

/**
 * Rendezvous hashing: the machine gets the shard with the highest hash. So a shard that starts again has
 * the same machines, and with one shard more only the machines that the new one gets have moved.
 *
 * @param machine its name: its hardware address, or its IP address
 * @returns the number of the shard, from 0
 */
export function ownerOf(machine: string, shards: number): number {
  let [owner, highest] = [0, '']
  for (let shard = 0; shard < shards; shard++) {
    const weight = hash('sha256', `${shard} ${machine}`)
    if (weight > highest) [owner, highest] = [shard, weight]
  }
  return owner
}
