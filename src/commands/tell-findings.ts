/** For `serve`: what the doctor finds and a server does not notice by itself. */
import { examineServing, type DoctorRequest } from '../doctor/examine.ts'
import { messageOf } from '../errors.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'

/** Never fails: the server serves in any case. */
export async function tellFindings(
  request: DoctorRequest,
  place: ServedInterface,
  warn: (line: string) => void,
): Promise<void> {
  try {
    for (const { level, message, code, fix } of await examineServing(request, place)) {
      warn(`${level}: ${message} [${code}]`)
      for (const line of fix.split('\n')) warn(`  ${line}`)
    }
  } catch (error) {
    if (request.signal.aborted) return
    warn(`could not examine this machine and its network: ${messageOf(error)}`)
  }
}
