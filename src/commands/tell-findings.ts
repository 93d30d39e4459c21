/** For `serve`: what the doctor finds and a server does not notice by itself. */
import { examineServing, type DoctorRequest } from '../doctor/examine.ts'
import { messageOf } from '../errors.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import { linesOf } from './findings.ts'

/** Never fails: the server serves in any case. */
export async function tellFindings(
  request: DoctorRequest,
  place: ServedInterface,
  warn: (line: string) => void,
): Promise<void> {
  try {
    for (const { code, ...finding } of await examineServing(request, place)) {
      const text = linesOf({ ...finding, id: code }).join('\n')
      for (const line of `${finding.level}: ${text}`.split('\n')) warn(line)
    }
  } catch (error) {
    if (request.signal.aborted) return
    warn(`could not examine this computer and its network: ${messageOf(error)}`)
  }
}
