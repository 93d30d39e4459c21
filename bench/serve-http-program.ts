/** Our HTTP server for bench/serve-http.ts. */
import { startHttpServer } from '../src/protocols/http/server.ts'

const [address = '', tree = ''] = process.argv.slice(2)
await startHttpServer({
  ...{ address, port: 80 },
  treesOf: () => ({ image: tree }),
  report: () => {},
  onError: (error) => void process.stderr.write(`${error.message}\n`),
})
process.stdout.write('ready\n')
