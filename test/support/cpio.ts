// Makes cpio archives of the newc format, from the specification and without the tested code. A
// test can put a wrong value into every field.

export type CpioFile = {
  name: string | Buffer
  /** With the type of the file: 0o100644 is an ordinary file. */
  mode?: number
  /** A file's content, or a symlink's target. */
  data?: string | Buffer
}

export type CpioLies = {
  magic?: string
  nameSize?: number
  fileSize?: number
  checksum?: number
}

export const modes = { file: 0o100644, program: 0o100755, directory: 0o040755, symlink: 0o120777 }

export const trailer: CpioFile = { name: 'TRAILER!!!', mode: 0 }

/** One header with its name and data, padded to multiples of four. */
export function cpioMember(file: CpioFile, lies: CpioLies = {}): Buffer {
  const name = Buffer.concat([Buffer.from(file.name), Buffer.alloc(1)])
  const data = Buffer.from(file.data ?? '')
  const fields = {
    inode: 0,
    mode: file.mode ?? modes.file,
    owner: 0,
    group: 0,
    links: 1,
    time: 1,
    fileSize: lies.fileSize ?? data.length,
    major: 0,
    minor: 0,
    deviceMajor: 0,
    deviceMinor: 0,
    nameSize: lies.nameSize ?? name.length,
    checksum: lies.checksum ?? 0,
  }
  const digits = Object.values(fields).map((field) => field.toString(16).padStart(8, '0'))
  const header = Buffer.from(`${lies.magic ?? '070701'}${digits.join('')}`)
  return Buffer.concat([padded(Buffer.concat([header, name])), padded(data)])
}

export function cpioArchive(files: readonly CpioFile[]): Buffer {
  return Buffer.concat([...files, trailer].map((file) => cpioMember(file)))
}

/** Pads to four bytes: in an initrd the kernel expects each archive at such an offset. */
export function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)])
}
