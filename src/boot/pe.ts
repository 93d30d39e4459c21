/**
 * PE files: adds sections to a program that UEFI starts. Existing sections keep their addresses in
 * memory. They may move in the file, because the headers grow.
 *
 * https://learn.microsoft.com/en-us/windows/win32/debug/pe-format
 */
import { closeSync, constants, openSync, readSync } from 'node:fs'

import { errnoOf, fileSystemError, NetimageError } from '../errors.ts'
import { isUefiProcessor, uefiProcessors, type UefiProcessor } from '../firmware.ts'
import { partBytes, type Part } from './boot-files.ts'

export interface NewSection {
  /** At most 8 bytes, as in `.linux`. */
  name: string
  content: Part
}

interface Section {
  header: Buffer
  virtualSize: number
  virtualAddress: number
  content: Part
}

const fileHeaderBytes = 20
const sectionHeaderBytes = 40
const pageBytes = 4096
const maxFileBytes = 2 ** 31
/** COFF characteristics */
const lineNumbersStripped = 0x0004
/** Section characteristics: initialized data that is only read, and code. */
const readOnlyData = 0x40000040
const executable = 0x20000000
/** Indexes of the data directories that hold file offsets. */
const certificateDirectory = 4
const debugDirectory = 6

interface Headers {
  /** Everything before the section headers. `write` patches it. */
  start: Buffer
  fileHeader: number
  optionalHeader: number
  fileAlignment: number
  sections: Section[]
}

/**
 * @param source the name of the program, for errors
 * @returns the parts of the new program, in order
 */
export function addSections(program: Buffer, added: readonly NewSection[], source: string): Part[] {
  const headers = readHeaders(program, source)
  const sections = [...headers.sections]
  for (const { name, content } of added) {
    const header = Buffer.alloc(sectionHeaderBytes)
    header.write(name, 0, 8, 'latin1')
    header.writeUInt32LE(readOnlyData, 36)
    const virtualAddress = align(endOfImage(sections), pageBytes)
    sections.push({ header, virtualSize: partBytes(content), virtualAddress, content })
  }
  return write(headers, sections)
}

/** The headers of iPXE's loaders and of kernels end before this. */
const firstBytes = 4096

/** @returns undefined if the file is no program for UEFI, or is for an unknown processor */
export function processorOfProgram(file: string): UefiProcessor | undefined {
  const start = Buffer.alloc(firstBytes)
  try {
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      readSync(descriptor, start)
    } finally {
      closeSync(descriptor)
    }
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(errnoOf(error) ?? '')) return undefined
    throw fileSystemError(`could not read ${file}`, error)
  }
  return processorOf(start)
}

/** @param start the first bytes of a file */
export function processorOf(start: Buffer): UefiProcessor | undefined {
  if (start.length < 0x40 || start.toString('latin1', 0, 2) !== 'MZ') return undefined
  const signature = start.readUInt32LE(0x3c)
  if (signature + 6 > start.length) return undefined
  if (start.toString('latin1', signature, signature + 4) !== 'PE\0\0') return undefined
  const machine = start.readUInt16LE(signature + 4)
  return Object.keys(uefiProcessors)
    .filter(isUefiProcessor)
    .find((processor) => uefiProcessors[processor].machine === machine)
}

/** The sections with code, as parts of `program`. @throws `NetimageError` */
export function codeOf(program: Buffer, source: string): Buffer[] {
  return readHeaders(program, source).sections.flatMap(({ header, content }) =>
    Buffer.isBuffer(content) && (header.readUInt32LE(36) & executable) !== 0 ? [content] : [],
  )
}

/** Whether the program has a signature for Secure Boot. @throws `NetimageError` */
export function isSigned(program: Buffer, source: string): boolean {
  const { start, optionalHeader } = readHeaders(program, source)
  const size = optionalHeader + 112 + certificateDirectory * 8 + 4
  if (size + 4 > start.length) return false
  const directories = start.readUInt32LE(optionalHeader + 108)
  return directories > certificateDirectory && start.readUInt32LE(size) > 0
}

function readHeaders(program: Buffer, source: string): Headers {
  try {
    return parseHeaders(program)
  } catch (error) {
    if (!(error instanceof RangeError) && !(error instanceof BrokenProgram)) throw error
    throw new NetimageError('bad-option', `${source} is no program for UEFI: ${error.message}`, {
      cause: error,
    })
  }
}

class BrokenProgram extends Error {}

function parseHeaders(program: Buffer): Headers {
  if (program.toString('latin1', 0, 2) !== 'MZ')
    throw new BrokenProgram('it does not begin with MZ')
  const signature = program.readUInt32LE(0x3c)
  if (program.toString('latin1', signature, signature + 4) !== 'PE\0\0') {
    throw new BrokenProgram('it has no PE signature')
  }
  const fileHeader = signature + 4
  const count = program.readUInt16LE(fileHeader + 2)
  const optionalHeader = fileHeader + fileHeaderBytes
  const optionalBytes = program.readUInt16LE(fileHeader + 16)
  if (program.readUInt16LE(optionalHeader) !== 0x20b) throw new BrokenProgram('it is not PE32+')
  const table = optionalHeader + optionalBytes
  const sections: Section[] = []
  for (let index = 0; index < count; index++) {
    const at = table + index * sectionHeaderBytes
    const header = Buffer.from(program.subarray(at, at + sectionHeaderBytes))
    const size = header.readUInt32LE(16)
    const place = header.readUInt32LE(20)
    if (place + size > program.length) throw new BrokenProgram('a section lies outside the file')
    sections.push({
      header,
      virtualSize: header.readUInt32LE(8),
      virtualAddress: header.readUInt32LE(12),
      content: program.subarray(place, place + size),
    })
  }
  const fileAlignment = program.readUInt32LE(optionalHeader + 36)
  const powerOfTwo = fileAlignment > 0 && (fileAlignment & (fileAlignment - 1)) === 0
  if (!powerOfTwo) throw new BrokenProgram(`its file alignment is ${fileAlignment}`)
  return {
    start: Buffer.from(program.subarray(0, table)),
    fileHeader,
    optionalHeader,
    fileAlignment,
    sections,
  }
}

function write(headers: Headers, sections: readonly Section[]): Part[] {
  const { start, fileHeader, optionalHeader, fileAlignment } = headers
  const headerBytes = align(start.length + sections.length * sectionHeaderBytes, fileAlignment)
  const [first] = sections
  if (first && headerBytes > first.virtualAddress) {
    throw new NetimageError('bad-option', 'the stub has no room for the headers of its sections')
  }
  const parts: Part[] = [start]
  let place = headerBytes
  for (const { header, content, virtualSize, virtualAddress } of sections) {
    const size = align(partBytes(content), fileAlignment)
    if (place + size > maxFileBytes) throw tooLarge()
    header.writeUInt32LE(virtualSize, 8)
    header.writeUInt32LE(virtualAddress, 12)
    header.writeUInt32LE(size, 16)
    header.writeUInt32LE(size > 0 ? place : 0, 20)
    parts.push(header)
    place += size
  }
  parts.push(Buffer.alloc(headerBytes - start.length - sections.length * sectionHeaderBytes))
  for (const { content } of sections) {
    const size = partBytes(content)
    parts.push(content, Buffer.alloc(align(size, fileAlignment) - size))
  }

  start.writeUInt16LE(sections.length, fileHeader + 2)
  // The symbol table may have moved, and a program needs none to run.
  start.writeUInt32LE(0, fileHeader + 8)
  start.writeUInt32LE(0, fileHeader + 12)
  const characteristics = start.readUInt16LE(fileHeader + 18)
  start.writeUInt16LE(characteristics | lineNumbersStripped, fileHeader + 18)
  const added = sections.slice(headers.sections.length)
  const addedBytes = added.reduce(
    (sum, { content }) => sum + align(partBytes(content), fileAlignment),
    0,
  )
  start.writeUInt32LE(start.readUInt32LE(optionalHeader + 8) + addedBytes, optionalHeader + 8)
  start.writeUInt32LE(align(endOfImage(sections), pageBytes), optionalHeader + 56)
  start.writeUInt32LE(headerBytes, optionalHeader + 60)
  // Firmware does not verify the checksum of an application. Zero means that there is none.
  start.writeUInt32LE(0, optionalHeader + 64)
  const directories = start.readUInt32LE(optionalHeader + 108)
  for (const index of [certificateDirectory, debugDirectory]) {
    // The changes invalidate signatures, and debug records hold file offsets that have moved.
    if (index < directories)
      start.fill(0, optionalHeader + 112 + index * 8, optionalHeader + 120 + index * 8)
  }
  return parts
}

function tooLarge(): NetimageError {
  return new NetimageError(
    'bad-system',
    'the kernel and the initrd are too large for one UEFI program',
    {
      hint: 'A PE file has at most 2 GiB. Make the initrd smaller, or use another way of booting.',
    },
  )
}

function endOfImage(sections: readonly Section[]): number {
  return Math.max(0, ...sections.map((section) => section.virtualAddress + section.virtualSize))
}

function align(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment
}
