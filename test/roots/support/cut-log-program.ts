// Empties a log that is so long that it is cut off.
//
//     node cut-log-program.ts DIRECTORY
import { openLayerDatabase } from '../../../src/roots/database.ts'

const [directory = ''] = process.argv.slice(2)
const database = openLayerDatabase(directory)
database.keepLog()
for (let number = 0; number < 20; number++) {
  database.begin()
  database.writeMeta('large', String(number % 10).repeat(2 ** 20))
  database.commit()
}
await database.sync()
process.stdout.write(`${await database.emptyLog()}\n`)
database.close()
