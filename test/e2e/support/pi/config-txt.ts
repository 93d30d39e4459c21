// Reads config.txt like the Raspberry Pi's firmware.
//
// https://www.raspberrypi.com/documentation/computers/config_txt.html

export type BootConfiguration = {
  /** The last value of each `name=value` in a section for this model. */
  values: ReadonlyMap<string, string>
  /** The files of `initramfs`, and their address in memory. */
  initramfs?: { files: string[]; address: string }
  overlays: string[]
}

/** Longer lines are cut: https://www.raspberrypi.com/documentation/computers/config_txt.html */
const maxLine = 98

/** @param filters the names of the filters that match the model */
export function readConfigTxt(text: string, filters: readonly string[]): BootConfiguration {
  const values = new Map<string, string>()
  const overlays: string[] = []
  let initramfs: BootConfiguration['initramfs']
  let holds = true
  for (const whole of text.split('\n')) {
    const line = whole.trim().slice(0, maxLine)
    if (line === '' || line.startsWith('#')) continue
    const [, filter] = /^\[(.*)\]$/.exec(line) ?? []
    if (filter !== undefined) holds = filter === 'all' || filters.includes(filter)
    else if (holds) {
      const [, files, address] = /^initramfs\s+(\S+)\s+(\S+)$/.exec(line) ?? []
      const [name = '', ...rest] = line.split('=')
      const value = rest.join('=')
      if (files !== undefined && address !== undefined) {
        initramfs = { files: files.split(','), address }
      } else if (name === 'dtoverlay') {
        if (value !== '') overlays.push(value.split(/[,:]/)[0] ?? '')
      } else if (rest.length > 0) values.set(name, value)
    }
  }
  return { values, overlays, ...(initramfs && { initramfs }) }
}
