// The beginning of a UEFI program, up to the type of its processor. test/boot/loaders.test.ts has a
// real program.

const machines = { x64: 0x8664, aa64: 0xaa64, riscv64: 0x5064, ia32: 0x14c } as const

export function peHeader(processor: keyof typeof machines): Buffer {
  const header = Buffer.alloc(0x100)
  header.write('MZ')
  header.writeUInt32LE(0x80, 0x3c)
  header.write('PE\0\0', 0x80, 'latin1')
  header.writeUInt16LE(machines[processor], 0x84)
  return header
}
