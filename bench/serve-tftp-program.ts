/** Our TFTP server for bench/serve-tftp.ts. */
import { startTftpServer } from '../src/protocols/tftp/server.ts'

const [address = '', tree = '', ports = ''] = process.argv.slice(2)
await startTftpServer({
  ...{ address, port: 69, singlePort: ports === 'single' },
  treesOf: () => ({ image: tree }),
  report: () => {},
  onError: (error) => void process.stderr.write(`${error.message}\n`),
})
process.stdout.write('ready\n')
