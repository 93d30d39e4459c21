/**
 * The program of a shard. The front starts it, and tells it by messages what to do. It ends with the
 * front.
 */
import { keepCompiledCode } from '../../compile-cache.ts'

keepCompiledCode()
process.once('disconnect', () => process.exit())
// A terminal and systemd tell all processes of a server to stop. The front decides when its shards do.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})

const { runShard } = await import('./run.ts')
runShard()
