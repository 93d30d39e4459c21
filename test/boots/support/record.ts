// The record of boots in a state directory, as a server has it open.

import { useBootDatabase } from '../../../src/boots/database.ts'
import { recordBoots, type BootRecord } from '../../../src/boots/record.ts'
import type { NetimageError } from '../../../src/errors.ts'

export function openBootRecord(
  state: string,
  onError: (error: NetimageError) => void,
): BootRecord & { close: () => void } {
  return useBootDatabase(state, onError, (database) => {
    const record = recordBoots(database, onError)
    const close = () => {
      record.flush()
      database.close()
    }
    return { ...record, close }
  })
}
