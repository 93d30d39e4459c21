/**
 * Takes the waits for an interrupt out of programs for UEFI on arm64. While iPXE waits for a key, it
 * puts the processor to sleep until the next interrupt. In U-Boot there are no interrupts, so iPXE
 * would sleep for ever at its first prompt.
 *
 * https://docs.u-boot.org/en/latest/develop/uefi/iscsi.html (the processor sleep in iPXE)
 */
import { readFile, writeFile } from 'node:fs/promises'

import { codeOf, isSigned } from './pe.ts'

/**
 * WFI is only a hint: a processor may go on at once, as it does with NOP. Arm Architecture Reference
 * Manual for A-profile, sections "Wait for Interrupt", WFI and NOP
 */
const waitForInterrupt = 0xd503207f
const noOperation = 0xd503201f

/**
 * Changes a program for UEFI on arm64. A signed program stays as it is: its signature covers the code.
 *
 * @param source names the program in errors
 * @throws `NetimageError` `bad-option` if the file is no such program
 */
export async function removeWaits(file: string, source: string): Promise<void> {
  const program = await readFile(file)
  if (isSigned(program, source)) return
  for (const code of codeOf(program, source)) {
    for (let at = 0; at + 4 <= code.length; at += 4) {
      if (code.readUInt32LE(at) === waitForInterrupt) code.writeUInt32LE(noOperation, at)
    }
  }
  await writeFile(file, program)
}
